// Trace fields: RFC 5321 §4.4, with the protocol names of RFC 3848 (ESMTPS, ESMTPA …) and RFC 6531 §4.3 (UTF8SMTP …).
import { isIPv6 } from 'node:net';
import { parseDomain } from './address.ts';
import { formatDate, type MailDate, parseDate } from './date.ts';
import { renderField } from './header-edit.ts';
import type { HeaderList } from './headers.ts';

export interface Protocol {
  readonly lmtp: boolean;
  /** EHLO rather than HELO; LMTP always. */
  readonly extended: boolean;
  readonly tls: boolean;
  readonly authenticated: boolean;
  readonly smtputf8: boolean;
}

/** The `with` protocol: RFC 3848, RFC 6531 §4.3. */
export function protocolName({ lmtp, extended, tls, authenticated, smtputf8 }: Protocol): string {
  if (!extended && !lmtp) return 'SMTP';
  const security = `${tls ? 'S' : ''}${authenticated ? 'A' : ''}`;
  if (smtputf8) return `UTF8${lmtp ? 'LMTP' : 'SMTP'}${security}`;
  return `${lmtp ? 'LMTP' : 'ESMTP'}${security}`;
}

export interface ReceivedFacts {
  /** As the client said it; what is no domain or literal is not repeated. */
  readonly helo: string;
  readonly remote: { readonly address: string /** verified reverse name */; readonly name?: string };
  readonly hostname: string;
  readonly protocol: Protocol;
  /** e.g. `TLSv1.3`, `TLS_AES_256_GCM_SHA384`. */
  readonly tls?: { readonly version: string; readonly cipher: string };
  /** Queue id. */
  readonly id: string;
  /** Only where there is one recipient: with several, each would learn of the others (RFC 5321 §7.2). */
  readonly recipient?: string;
  /** ms since the epoch. */
  readonly at: number;
  /** Minutes east of Greenwich in which the time is shown; default 0. */
  readonly zoneMinutes?: number;
}

/** The first line is behind `Received: `. */
const foldedAscii = /^[\x20-\x7e]{1,68}(?:\r\n\t[\x21-\x7e][\x20-\x7e]{0,76})*$/;

const literal = (address: string): string => (isIPv6(address) ? `[IPv6:${address}]` : `[${address}]`);

/** The complete field, folded, with its line end. */
export function receivedField(facts: ReceivedFacts): Buffer {
  const { remote, protocol, tls } = facts;
  const helo = parseDomain(facts.helo) ?? 'unknown';
  const tcp = `${remote.name && parseDomain(remote.name) ? `${remote.name} ` : ''}${literal(remote.address)}`;
  const security = tls ? `\r\n\t(using ${tls.version} with cipher ${tls.cipher})` : '';
  const recipient = facts.recipient === undefined ? '' : `\r\n\tfor <${facts.recipient}>`;
  const lines = [
    `from ${helo} (${tcp})${security}`,
    `by ${facts.hostname} with ${protocolName(protocol)} id ${facts.id}${recipient};`,
    formatDate(facts.at, facts.zoneMinutes),
  ];
  const value = lines.join('\r\n\t');
  // Almost always it is as it should be: ASCII without controls, and no line that needs another fold (RFC 5322 §2.1.1).
  if (foldedAscii.test(value)) return Buffer.from(`Received: ${value}\r\n`, 'latin1');
  return renderField('Received', value, { utf8: protocol.smtputf8 });
}

/** How often the message was passed on: a loop when it exceeds a limit (RFC 5321 §6.3). */
export const countHops = (headers: HeaderList): number => headers.all('received').length;

export interface Received {
  /** Clauses by lower-case keyword (`from`, `by`, `with`, `id`, `for` …), comments removed. */
  readonly clauses: ReadonlyMap<string, string>;
  /** What stands in the comment behind `from`: the client as the server saw it. */
  readonly tcpInfo?: string;
  readonly date?: MailDate;
}

const keywords: ReadonlySet<string> = new Set(['from', 'by', 'via', 'with', 'id', 'for']);

/** Words and comments of a value in order; comments nest (RFC 5322 §3.2.2). */
function* lex(value: string): Generator<{ readonly kind: 'word' | 'comment'; readonly text: string }> {
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= value.length; at++) {
    const character = value[at];
    const isEnd = character === undefined || (depth === 0 && /[\s(]/.test(character));
    if (isEnd && depth === 0 && at > start) yield { kind: 'word', text: value.slice(start, at) };
    if (isEnd && depth === 0) start = at + 1;
    if (character === '\\') at++;
    else if (character === '(') depth++;
    else if (character === ')' && depth > 0 && --depth === 0) {
      yield { kind: 'comment', text: value.slice(start, at) };
      start = at + 1;
    }
  }
}

/** Reads a Received field as others wrote it: any order, any comments. */
export function parseReceived(value: string): Received {
  const semicolon = value.lastIndexOf(';');
  const date = parseDate(value.slice(semicolon + 1));
  const clauses = new Map<string, string>();
  let keyword = '';
  let tcpInfo: string | undefined;
  for (const { kind, text } of lex(semicolon < 0 ? value : value.slice(0, semicolon))) {
    if (kind === 'comment') {
      if (keyword === 'from') tcpInfo ??= text.trim();
    } else if (keywords.has(text.toLowerCase()) && !clauses.has(text.toLowerCase())) keyword = text.toLowerCase();
    else if (keyword !== '' && !clauses.has(keyword)) clauses.set(keyword, text);
  }
  return { clauses, ...(tcpInfo === undefined ? {} : { tcpInfo }), ...(date ? { date } : {}) };
}
