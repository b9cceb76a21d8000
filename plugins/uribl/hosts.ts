// From a message to the hosts that its links lead to. Links are resolved as browsers do (WHATWG URL: percent signs,
// international names, `user@`, numbers as addresses), and a link within a link, as redirectors have it, counts too.
import { isIP } from 'node:net';
import {
  decodeBodyText,
  decodeWords,
  type MimePart,
  mailboxesOf,
  parseAddressList,
  partFilename,
  type WithMessage,
  walkParts,
} from '../../core/plugin/index.ts';
import { htmlLinks } from './html-links.ts';
import { domainOf } from './registered-domain.ts';
import { textLinks } from './text-links.ts';

export interface LinkedHost {
  /** Lower case, A-labels, without a dot at the end; an IPv4 or IPv6 address without brackets. */
  readonly host: string;
  /** Absent for addresses and for names without a known top-level domain. */
  readonly domain?: string;
}

export interface FoundHosts {
  readonly hosts: readonly LinkedHost[];
  /** The text was longer, or had more parts, than is looked at. */
  readonly cutOff: boolean;
}

const maxParts = 200;
const maxNesting = 4;
const followed = new Set(['http:', 'https:', 'ftp:', 'ws:', 'wss:']);

function parseUrl(link: string, base: string | undefined): URL | undefined {
  const text = link.trim();
  const url = URL.canParse(text, base) ? new URL(text, base) : undefined;
  return url && followed.has(url.protocol) ? url : undefined;
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not all of it is an escape: what is, is decoded by itself.
    return text.replace(/%([2-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  }
}

/** Hosts of a link and of the links that it carries along (`?url=https%3A%2F%2F…`). */
function* hostsOfLink(link: string, base: string | undefined, depth = 0): Generator<string> {
  const url = parseUrl(link, base);
  if (!url) {
    // A handler or a script: only what has a scheme.
    if (depth === 0 && /:[\\/]{2}/.test(link))
      for (const inner of textLinks(link).links) yield* hostsOfLink(inner, undefined, 1);
    return;
  }
  yield url.hostname;
  if (depth >= maxNesting) return;
  let rest = `${url.pathname}${url.search}${url.hash}`;
  for (let round = 0; round < 3; round++) {
    const inner = /(?:https?|ftp):\/{1,2}[^\s"'<>]+/i.exec(rest.slice(0, 4000));
    if (inner) {
      yield* hostsOfLink(inner[0], undefined, depth + 1);
      return;
    }
    const next = unescaped(rest);
    if (next === rest) return;
    rest = next;
  }
}

/** An international name becomes A-labels here, too. */
function linkedHost(hostname: string): LinkedHost | undefined {
  const host = hostname
    .toLowerCase()
    .replace(/\.+$/, '')
    .replace(/^\[(.*)\]$/, '$1');
  if (isIP(host) !== 0) return { host };
  if (!/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)+$/.test(host)) return undefined;
  const domain = domainOf(host);
  return { host, ...(domain === undefined ? {} : { domain }) };
}

type TextKind = 'html' | 'text' | undefined;
function kindOf(part: MimePart): TextKind {
  if (part.parts.length > 0 || part.message) return undefined;
  const { type, subtype } = part.contentType;
  const name = partFilename(part)?.toLowerCase() ?? '';
  if (/html|svg|xml/.test(subtype) || /\.(?:s?html?|xht(?:ml)?|svg|hta)$/.test(name)) return 'html';
  return type === 'text' || /\.(?:txt|ics|vcf|csv|url)$/.test(name) ? 'text' : undefined;
}

function* hostsOfText(text: string, kind: 'html' | 'text', bareNames: boolean): Generator<string> {
  const html = kind === 'html' ? htmlLinks(text) : undefined;
  const base = html?.base === undefined ? undefined : parseUrl(html.base, undefined)?.href;
  if (html?.base !== undefined) yield* hostsOfLink(html.base, undefined);
  for (const link of html?.links ?? []) yield* hostsOfLink(link, base ?? 'http://relative.invalid/');
  const { links, bare } = textLinks(html?.text ?? text);
  for (const link of links) yield* hostsOfLink(link, undefined);
  if (bareNames) for (const name of bare) yield* hostsOfLink(name, undefined, maxNesting);
}

function* hostsOfFields(at: WithMessage, fields: readonly string[], bareNames: boolean): Generator<string> {
  const { headers } = at.message;
  for (const { value } of headers.all('subject')) yield* hostsOfText(decodeWords(value), 'text', bareNames);
  for (const name of fields)
    for (const { value } of headers.all(name))
      for (const { domain } of mailboxesOf(parseAddressList(value)))
        yield* hostsOfLink(`http://${domain}`, undefined, maxNesting);
}

export interface HostLimits {
  readonly maxText: number;
  readonly bareNames: boolean;
  /** Header fields whose addresses count. */
  readonly fields: readonly string[];
}

/** Each host once, in the order of the message: fields, then parts; within a part links before text. */
export async function hostsOf(at: WithMessage, limits: HostLimits): Promise<FoundHosts> {
  const found = new Map<string, LinkedHost>();
  const take = (hostnames: Iterable<string>): void => {
    for (const hostname of hostnames) {
      const linked = linkedHost(hostname);
      if (linked && linked.host !== 'relative.invalid' && !found.has(linked.host)) found.set(linked.host, linked);
    }
  };
  take(hostsOfFields(at, limits.fields, limits.bareNames));
  let left = limits.maxText;
  let parts = 0;
  let cutOff = false;
  for (const part of walkParts(await at.message.mime())) {
    const kind = kindOf(part);
    if (kind === undefined) continue;
    if (parts++ >= maxParts || left <= 0) {
      cutOff = true;
      break;
    }
    const text = await decodeBodyText(at.message.rope, part, left);
    at.signal.throwIfAborted();
    cutOff ||= text.length >= left;
    left -= text.length;
    take(hostsOfText(text, kind, limits.bareNames));
  }
  return { hosts: [...found.values()], cutOff };
}
