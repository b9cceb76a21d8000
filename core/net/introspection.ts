// Token introspection (RFC 7662) over HTTP: one question, one JSON object. The token and our own secret go over TLS only,
// or to this very machine (invariant I8); redirects are not followed.
import http from 'node:http';
import https from 'node:https';
import { BlockList, isIP } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { startDeadline } from '../lib/deadline.ts';

export interface IntrospectionOptions {
  readonly url: string;
  readonly clientId: string;
  /** Asked for each question. @throws Error where it cannot be read. */
  readonly clientSecret: () => string;
  /** PEM; default: the authorities that Node trusts. */
  readonly ca?: string | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

export type IntrospectionAnswer =
  | { readonly kind: 'answer'; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly kind: 'unavailable'; readonly why: string };

const maxAnswerBytes = 64 * 1024;
const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** What is wrong with the address of an issuer; undefined where nothing is. */
export function introspectionUrlFault(url: string): string | undefined {
  if (!URL.canParse(url)) return 'Expected a URL';
  const { protocol, hostname, username, password } = new URL(url);
  if (username !== '' || password !== '') return 'Name the client by `clientId` and `clientSecret`, not in the URL';
  if (protocol === 'https:') return undefined;
  if (protocol !== 'http:') return 'Expected https://';
  const address = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(address);
  const local = family !== 0 && loopback.check(address, family === 4 ? 'ipv4' : 'ipv6');
  return local ? undefined : 'Expected https://; http:// goes to 127.0.0.1 and [::1] only';
}

/** RFC 6749 §2.3.1: both are form-encoded first. */
function basic(id: string, secret: string): string {
  const encode = (text: string): string => new URLSearchParams([['', text]]).toString().slice(1);
  return `Basic ${Buffer.from(`${encode(id)}:${encode(secret)}`).toString('base64')}`;
}

async function bodyOf(response: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) throw new Error('answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function claimsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

/** A kept connection that the issuer closed meanwhile: nothing came back. */
class StaleConnection extends Error {}

function post(body: string, options: IntrospectionOptions, signal: AbortSignal): Promise<http.IncomingMessage> {
  const { request } = options.url.startsWith('https:') ? https : http;
  return new Promise((resolve, reject) => {
    const asked = request(options.url, {
      method: 'POST',
      headers: {
        Authorization: basic(options.clientId, options.clientSecret()),
        'Content-Type': 'application/x-www-form-urlencoded',
        'Content-Length': Buffer.byteLength(body),
        Accept: 'application/json',
      },
      ...(options.ca !== undefined && { ca: options.ca }),
      signal,
    });
    asked
      .on('response', resolve)
      .on('error', error => reject(asked.reusedSocket && !signal.aborted ? new StaleConnection() : error))
      .end(body);
  });
}

/** Each connection that is stale is one kept connection less. */
async function ask(body: string, options: IntrospectionOptions, signal: AbortSignal): Promise<http.IncomingMessage> {
  for (;;)
    try {
      return await post(body, options, signal);
    } catch (error) {
      if (!(error instanceof StaleConnection)) throw error;
    }
}

/** Never rejects. */
export async function introspect(token: string, options: IntrospectionOptions): Promise<IntrospectionAnswer> {
  const deadline = startDeadline(options.clock, options.timeoutMs);
  try {
    const fault = introspectionUrlFault(options.url);
    if (fault !== undefined) throw new Error(fault);
    const body = new URLSearchParams({ token, token_type_hint: 'access_token' }).toString();
    const response = await ask(body, options, deadline.signal);
    const text = await bodyOf(response);
    // RFC 7662 §2.3: a token that does not hold is no error; 401 says that we are not known there.
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
    const claims = claimsOf(text);
    if (!claims) throw new Error('answer is no JSON object');
    return { kind: 'answer', claims };
  } catch (error) {
    const reason: unknown = deadline.signal.aborted ? deadline.signal.reason : error;
    return { kind: 'unavailable', why: `Token issuer: ${reason instanceof Error ? reason.message : String(reason)}` };
  } finally {
    deadline.done();
  }
}
