// The Sender Rewriting Scheme, as https://www.libsrs2.net/srs/srs.pdf describes it: who forwards a message sends it under
// an address of his own, so that SPF holds at the next hop, and finds the sender again when a bounce comes back.
//   SRS0=hash=day=domain=local@forwarder                    the first hop
//   SRS1=hash=first-hop==hash=day=domain=local@forwarder    every later one: bounces go to the first hop at once
// The same addresses come out as from Mail::SRS, libsrs2 and postsrsd with the same secret, so that one replaces the
// other while bounces are on their way. Pure values: the caller hands the time in and decides whose mail is forwarded.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { type Address, formatAddress, makeAddress, parseDomain, parseMailbox } from './address.ts';

export interface SrsSettings {
  /** Domain of rewritten senders, canonical; mail to it must come back to us. */
  readonly domain: string;
  /** The first one makes addresses, all of them are good for addresses that come back. */
  readonly secrets: readonly string[];
  /** Days after which an address is no longer good. */
  readonly maxAgeDays?: number;
  /** Characters of the hash that are written; shorter ones are not taken back. */
  readonly hashLength?: number;
  /** Behind `SRS0` and `SRS1`; any of the three is read. */
  readonly separator?: '=' | '+' | '-';
}
export const defaultSrs = { maxAgeDays: 21, hashLength: 4, separator: '=' } as const;

export type SrsReversal =
  /** `address` is where the bounce goes: the sender, or the SRS0 address at the first hop. */
  | { readonly kind: 'address'; readonly address: Address }
  | { readonly kind: 'not-srs' }
  /** Made by somebody who has none of our secrets, or longer ago than the maximum age. */
  | { readonly kind: 'forged' | 'expired' };

export interface Srs {
  /**
   * The sender under our domain; itself where it is in our domain already, undefined where the result would be no
   * address that SMTP carries.
   */
  rewrite(sender: Address, nowMs: number): Address | undefined;
  /** Reads a recipient of ours. Hash and day stamp of each address are checked before its text is believed. */
  reverse(recipient: Address, nowMs: number): SrsReversal;
}

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const dayMs = 86_400_000;
/** Two digits of base 32: the stamp comes round every 1024 days. */
const stampDays = 1024;

// Software on the way lower-cases local parts, so nothing here depends on case.
const firstHop = /^srs0(?<rest>[=+-].+)$/is;
const laterHop = /^srs1[=+-](?<hash>[^=]*)=(?<host>[^=]+)=(?<rest>[=+-].+)$/is;
const firstHopParts = /^[=+-](?<hash>[^=]*)=(?<stamp>[a-z2-7]{2})=(?<host>[^=]+)=(?<local>.*)$/is;

const dayStamp = (nowMs: number): string => {
  const day = Math.floor(nowMs / dayMs) % stampDays;
  return `${base32[day >> 5]}${base32[day & 31]}`;
};

/** Days since the stamp, from 0 to 1023: one that lies ahead of us looks very old. */
function stampAge(stamp: string, nowMs: number): number {
  const [high = '', low = ''] = stamp.toUpperCase();
  const then = base32.indexOf(high) * 32 + base32.indexOf(low);
  return (Math.floor(nowMs / dayMs) - then + stampDays * 2) % stampDays;
}

/** Does the local part look like one of this scheme? Says nothing about who made it. */
export const looksLikeSrs = ({ local }: Address): boolean => firstHop.test(local) || laterHop.test(local);

class SecretSrs implements Srs {
  readonly #settings: Required<SrsSettings>;
  constructor(settings: SrsSettings) {
    this.#settings = { ...defaultSrs, ...settings };
    const { secrets, hashLength } = this.#settings;
    if (secrets.length === 0 || secrets.includes('')) throw new Error('SRS needs a secret that is not empty');
    if (hashLength < 1 || hashLength > 27) throw new Error(`SRS hash of ${hashLength} characters`);
  }

  rewrite(sender: Address, nowMs: number): Address | undefined {
    if (sender.domain === this.#settings.domain) return sender;
    const made = makeAddress(this.#localPart(sender, nowMs), this.#settings.domain);
    const parsed = parseMailbox(made.text, { smtputf8: true });
    return parsed.kind === 'address' ? made : undefined;
  }

  #localPart({ local, domain }: Address, nowMs: number): string {
    const { separator } = this.#settings;
    const later = laterHop.exec(local)?.groups;
    // The first hop's address is kept as it is, so that the chain never grows (SRS paper, SRS1).
    const host = later?.['host'] ?? domain;
    const rest = later?.['rest'] ?? firstHop.exec(local)?.groups?.['rest'];
    if (rest !== undefined) return `SRS1${separator}${this.#make(host, rest)}=${host}=${rest}`;
    const stamp = dayStamp(nowMs);
    return `SRS0${separator}${this.#make(stamp, domain, local)}=${stamp}=${domain}=${local}`;
  }

  reverse(recipient: Address, nowMs: number): SrsReversal {
    const later = laterHop.exec(recipient.local)?.groups;
    if (later) return this.#reverseLater(later, nowMs);
    const first = firstHop.exec(recipient.local)?.groups?.['rest'];
    const parts = first === undefined ? undefined : firstHopParts.exec(first)?.groups;
    if (!parts) return { kind: 'not-srs' };
    const { hash = '', stamp = '', host = '', local = '' } = parts;
    if (!this.#isOurs(hash, stamp, host, local)) return { kind: 'forged' };
    // Another gateway of ours may be a little ahead at midnight.
    const age = stampAge(stamp, nowMs);
    if (age > this.#settings.maxAgeDays && age !== stampDays - 1) return { kind: 'expired' };
    return found(local, host);
  }

  #reverseLater({ hash = '', host = '', rest = '' }: Readonly<Record<string, string>>, nowMs: number): SrsReversal {
    if (!this.#isOurs(hash, host, rest)) return { kind: 'forged' };
    const first = found(`SRS0${rest}`, host);
    // The first hop may have been we ourselves.
    if (first.kind !== 'address' || first.address.domain !== this.#settings.domain) return first;
    return this.reverse(first.address, nowMs);
  }

  #make(...data: readonly string[]): string {
    const { secrets, hashLength } = this.#settings;
    return hashOf(secrets[0] as string, data).slice(0, hashLength);
  }

  #isOurs(hash: string, ...data: readonly string[]): boolean {
    const given = Buffer.from(hash.toLowerCase());
    if (given.length < this.#settings.hashLength) return false;
    let ours = false;
    for (const secret of this.#settings.secrets) {
      const wanted = Buffer.from(hashOf(secret, data).slice(0, given.length).toLowerCase());
      // Each is compared, in constant time: how long it takes tells nothing about how much was right.
      if (wanted.length === given.length && timingSafeEqual(wanted, given)) ours = true;
    }
    return ours;
  }
}

const hashOf = (secret: string, data: readonly string[]): string =>
  createHmac('sha1', secret).update(data.join('').toLowerCase()).digest('base64').slice(0, 27);

function found(local: string, host: string): SrsReversal {
  const domain = parseDomain(host);
  const parsed = domain === undefined ? undefined : parseMailbox(formatAddress(local, domain), { smtputf8: true });
  return parsed?.kind === 'address' ? parsed : { kind: 'not-srs' };
}

/** Throws an Error where the settings make no sense. */
export const createSrs = (settings: SrsSettings): Srs => new SecretSrs(settings);
