// What a mail server behind the gateway can do, found out by talking to it: nothing is delivered, no DATA is ever sent.
import { randomBytes } from 'node:crypto';
import type { Clock } from '../lib/clock.ts';
import { WireClient } from '../lib/wire-client.ts';
import { command, reply } from './smtp-talk.ts';

export interface BackendCertificate {
  /** SHA-256, as `fingerprint` of a route takes it. */
  readonly fingerprint: string;
  readonly subject: string;
  readonly issuer: string;
  /** ms since the epoch. */
  readonly notAfter: number;
  /** Why it would not verify; absent: it does. */
  readonly refusal?: string;
}

/** What a random recipient of the domain hears. */
export type RecipientAnswer = 'refuses-unknown' | 'accepts-all' | 'not-its-domain' | 'cannot-say';

export interface BackendFacts {
  readonly banner: string;
  readonly software: 'exchange' | 'microsoft365' | 'postfix' | 'exim' | 'postern' | 'other';
  /** Upper-case keywords of the EHLO reply inside TLS where there is some. */
  readonly extensions: readonly string[];
  readonly size?: number;
  readonly certificate?: BackendCertificate;
  readonly recipients: readonly { readonly domain: string; readonly answer: RecipientAnswer; readonly reply: string }[];
  /** Our address on the way to it. */
  readonly localAddress: string;
}

export type BackendProbe =
  | { readonly kind: 'reached'; readonly facts: BackendFacts }
  | { readonly kind: 'failed'; readonly why: string };

export interface ProbeOptions {
  readonly host: string;
  readonly port: number;
  /** What we call ourselves. */
  readonly helo: string;
  readonly domains: readonly string[];
  readonly clock: Clock;
  readonly timeoutMs?: number;
}

const softwareOf = (banner: string, extensions: readonly string[]): BackendFacts['software'] => {
  if (/Microsoft ESMTP MAIL Service/i.test(banner) && /outlook\.com/i.test(banner)) return 'microsoft365';
  if (/Microsoft ESMTP/i.test(banner) || extensions.includes('X-EXPS') || extensions.includes('XRDST'))
    return 'exchange';
  return (['postfix', 'exim', 'postern'] as const).find(name => banner.toLowerCase().includes(name)) ?? 'other';
};

function certificateOf(wire: WireClient): BackendCertificate | undefined {
  const shown = wire.certificate;
  if (!shown) return undefined;
  const { seen, refusal } = shown;
  const name = (of: Record<string, unknown> | undefined): string => String(of?.['CN'] ?? of?.['O'] ?? '?');
  return {
    fingerprint: seen.fingerprint256,
    subject: name(seen.subject as unknown as Record<string, unknown>),
    issuer: name(seen.issuer as unknown as Record<string, unknown>),
    notAfter: Date.parse(seen.valid_to),
    ...(refusal === undefined ? {} : { refusal }),
  };
}

/** RFC 5321 §3.3: asked with the null sender, which must be taken, and taken back. */
async function askRecipient(wire: WireClient, domain: string): Promise<{ answer: RecipientAnswer; reply: string }> {
  const from = await command(wire, 'MAIL FROM:<>');
  if (from.code >= 300) return { answer: 'cannot-say', reply: `${from.code} ${from.lines.join(' ')}` };
  const to = await command(wire, `RCPT TO:<postern-probe-${randomBytes(6).toString('hex')}@${domain}>`);
  await command(wire, 'RSET');
  const text = `${to.code} ${to.lines.join(' ')}`;
  if (to.code < 300) return { answer: 'accepts-all', reply: text };
  if (to.code < 500) return { answer: 'cannot-say', reply: text };
  const relaying = /^5\.7\.|relay/i.test(to.lines[0] ?? '');
  return { answer: relaying ? 'not-its-domain' : 'refuses-unknown', reply: text };
}

async function look(wire: WireClient, options: ProbeOptions): Promise<BackendFacts> {
  const greeting = await reply(wire);
  if (greeting.code !== 220) throw new Error(`It greets with ${greeting.code} ${greeting.lines.join(' ')}`);
  const banner = greeting.lines.join(' ');
  const ehlo = async (): Promise<readonly string[]> => {
    const answer = await command(wire, `EHLO ${options.helo}`);
    if (answer.code !== 250) throw new Error(`EHLO is answered with ${answer.code} ${answer.lines.join(' ')}`);
    return answer.lines.slice(1).map(line => line.toUpperCase());
  };
  let lines = await ehlo();
  let certificate: BackendCertificate | undefined;
  if (lines.includes('STARTTLS')) {
    const ready = await command(wire, 'STARTTLS');
    if (ready.code === 220) {
      await wire.startTls();
      certificate = certificateOf(wire);
      lines = await ehlo();
    }
  }
  const recipients: { domain: string; answer: RecipientAnswer; reply: string }[] = [];
  for (const domain of options.domains) recipients.push({ domain, ...(await askRecipient(wire, domain)) });
  wire.write('QUIT\r\n');
  const extensions = lines.map(line => line.split(' ', 1)[0] ?? '');
  const size = Number(lines.find(line => line.startsWith('SIZE '))?.slice(5));
  return {
    banner,
    software: softwareOf(banner, extensions),
    extensions,
    ...(size > 0 ? { size } : {}),
    ...(certificate ? { certificate } : {}),
    recipients,
    localAddress: wire.localAddress.replace(/^::ffff:/, ''),
  };
}

/** Never rejects. */
export async function probeBackend(options: ProbeOptions): Promise<BackendProbe> {
  const { host, port, clock, timeoutMs = 15_000 } = options;
  const abort = new AbortController();
  const cancel = clock.after(timeoutMs * 4, () => abort.abort(new Error(`No end after ${(timeoutMs * 4) / 1000} s`)));
  let wire: WireClient | undefined;
  try {
    wire = await WireClient.open({
      host,
      port,
      implicitTls: false,
      trust: { servername: host, anything: true },
      clock,
      timeoutMs,
      signal: abort.signal,
    });
    return { kind: 'reached', facts: await look(wire, options) };
  } catch (error) {
    return { kind: 'failed', why: (error as Error).message };
  } finally {
    cancel();
    wire?.close();
  }
}
