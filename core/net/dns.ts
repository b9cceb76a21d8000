// The resolver that all parts share: a stub (RFC 1034 §5.3.1) of its own, because the one of the runtime has neither TTL
// nor AD bit, and takes SERVFAIL for "no such name". Three answers and no exceptions: found, none, tempfail.
// Bounded: time per question, questions in flight, cache entries. Search domains are not used: mail names are absolute.
import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';
import { addressBytes } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { startDeadline } from '../lib/deadline.ts';
import type { Dns, DnsAnswer, DnsRecords } from '../plugin/contract.ts';
import { exchange, parseServer, type ServerAddress } from './dns-exchange.ts';
import type { RecordType } from './dns-wire.ts';

export interface DnsOptions {
  readonly clock: Clock;
  /** Asked in order; the next one when one is silent or fails. At least one. */
  readonly servers: readonly string[];
  /** Longest wait for one server; default 1.5 s. */
  readonly attemptMs?: number;
  /** Longest time for one question over all servers; default 6 s. */
  readonly totalMs?: number;
  /** Most answers kept; default 10,000. */
  readonly cacheEntries?: number;
  /** Most questions in flight; more are not asked (tempfail). Default 1,000. */
  readonly inFlight?: number;
}

export interface Resolver extends Dns {
  /** Ends all questions in flight; they answer tempfail. */
  close(): void;
}

type Answer = DnsAnswer<unknown>;
interface Cached {
  readonly answer: Answer;
  readonly expiresAt: number;
}
interface Flight {
  readonly promise: Promise<Answer>;
  giveUp(): void;
  waiters: number;
}

/** RFC 8767 §4 caps at days; a day is plenty for mail and heals mistakes of others sooner. */
const maxTtl = 86_400;
/** RFC 2308 §5 suggests one to three hours as the most for negative answers. */
const maxNegativeTtl = 3_600;
/** A server that was silent is asked last for so long. */
const penaltyMs = 30_000;

/** Name servers of resolv.conf(5), or the local one where it names none. */
export async function systemServers(file = '/etc/resolv.conf'): Promise<readonly string[]> {
  const text = await readFile(file, 'utf8').catch(() => '');
  const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(match => match[1] ?? '');
  return found.length > 0 ? found.slice(0, 3) : ['127.0.0.1'];
}

/** Name under in-addr.arpa or ip6.arpa (RFC 1035 §3.5, RFC 3596 §2.5); undefined for what is no address. */
export function reverseName(address: string): string | undefined {
  const bytes = addressBytes(address);
  if (!bytes) return undefined;
  if (bytes.length === 4) return `${[...bytes].reverse().join('.')}.in-addr.arpa`;
  return `${[...Buffer.from(bytes).toString('hex')].reverse().join('.')}.ip6.arpa`;
}

/** RFC 1035 §2.3.4. What breaks it cannot exist, so nobody needs to be asked. */
const possible = (name: string): boolean =>
  name.length > 0 && name.length <= 253 && name.split('.').every(label => label.length > 0 && label.length <= 63);

export function createDns(options: DnsOptions): Resolver {
  return new StubResolver(options);
}

class StubResolver implements Resolver {
  readonly servers: readonly string[];
  readonly #clock: Clock;
  readonly #addresses: readonly ServerAddress[];
  readonly #attemptMs: number;
  readonly #totalMs: number;
  readonly #cacheEntries: number;
  readonly #maxInFlight: number;
  readonly #cache = new Map<string, Cached>();
  readonly #flights = new Map<string, Flight>();
  readonly #penalties = new Map<ServerAddress, number>();

  constructor(options: DnsOptions) {
    if (options.servers.length === 0) throw new Error('A resolver needs at least one server');
    this.servers = options.servers;
    this.#clock = options.clock;
    this.#addresses = options.servers.map(parseServer);
    this.#attemptMs = options.attemptMs ?? 1_500;
    this.#totalMs = options.totalMs ?? 6_000;
    this.#cacheEntries = options.cacheEntries ?? 10_000;
    this.#maxInFlight = options.inFlight ?? 1_000;
  }

  a = (name: string, signal?: AbortSignal) => this.query(name, 'A', signal);
  aaaa = (name: string, signal?: AbortSignal) => this.query(name, 'AAAA', signal);
  txt = (name: string, signal?: AbortSignal) => this.query(name, 'TXT', signal);
  mx = (name: string, signal?: AbortSignal) => this.query(name, 'MX', signal);
  ptr = async (address: string, signal?: AbortSignal): Promise<DnsAnswer<string>> => {
    const name = reverseName(address);
    return name === undefined ? { kind: 'none', ttl: 0 } : this.query(name, 'PTR', signal);
  };

  // The one cast: the wire decodes records of the type that was asked for.
  query = <Type extends RecordType>(name: string, type: Type, signal?: AbortSignal) =>
    this.#ask(name, type, signal) as Promise<DnsAnswer<DnsRecords[Type]>>;

  close(): void {
    for (const flight of this.#flights.values()) flight.giveUp();
  }

  async #ask(given: string, type: RecordType, signal: AbortSignal | undefined): Promise<Answer> {
    const name = given.toLowerCase().replace(/\.$/, '');
    if (!possible(name)) return { kind: 'none', ttl: 0 };
    if (signal?.aborted) return { kind: 'tempfail', why: 'Aborted' };
    const key = `${type} ${name}`;
    const cached = this.#fromCache(key);
    if (cached) return cached;
    let flight = this.#flights.get(key);
    if (!flight) {
      if (this.#flights.size >= this.#maxInFlight) return { kind: 'tempfail', why: 'Too many questions in flight' };
      flight = this.#start(key, name, type);
    }
    return join(flight, signal);
  }

  #fromCache(key: string): Answer | undefined {
    const cached = this.#cache.get(key);
    if (!cached) return undefined;
    const ttl = Math.floor((cached.expiresAt - this.#clock.monotonic()) / 1000);
    this.#cache.delete(key);
    if (ttl < 0) return undefined;
    // Put back at the end: the first of the map is the one that was not asked for the longest.
    this.#cache.set(key, cached);
    return cached.answer.kind === 'tempfail' ? cached.answer : { ...cached.answer, ttl };
  }

  #start(key: string, name: string, type: RecordType): Flight {
    const cancel = new AbortController();
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    const promise = this.#resolve(name, type, cancel.signal).then(
      answer => {
        forget();
        this.#keep(key, answer);
        return answer;
      },
      (error: Error): Answer => {
        forget();
        return { kind: 'tempfail', why: error.message };
      },
    );
    const flight: Flight = {
      promise,
      waiters: 0,
      giveUp() {
        forget();
        cancel.abort();
      },
    };
    this.#flights.set(key, flight);
    return flight;
  }

  #keep(key: string, answer: Answer): void {
    if (answer.kind === 'tempfail') return;
    const ttl = Math.min(answer.ttl, answer.kind === 'none' ? maxNegativeTtl : maxTtl);
    if (ttl <= 0) return;
    this.#cache.set(key, { answer, expiresAt: this.#clock.monotonic() + ttl * 1000 });
    if (this.#cache.size > this.#cacheEntries)
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
  }

  /** Each server once in order of health, then those that were only silent a second time. */
  async #resolve(name: string, type: RecordType, cancel: AbortSignal): Promise<Answer> {
    const deadline = startDeadline(this.#clock, this.#totalMs, cancel);
    const reasons: string[] = [];
    try {
      const first = this.#byHealth();
      const silent: ServerAddress[] = [];
      for (const [index, server] of [...first, ...first].entries()) {
        if (deadline.signal.aborted) break;
        if (index >= first.length && !silent.includes(server)) continue;
        const answer = await exchange(server, name, type, this.#clock, this.#attemptMs, deadline.signal);
        if (answer.kind === 'found' || answer.kind === 'none') {
          this.#penalties.delete(server);
          return answer;
        }
        // Where nobody waits any more it says nothing about the server.
        if (answer.kind === 'silent' && !cancel.aborted) {
          silent.push(server);
          this.#penalties.set(server, this.#clock.monotonic() + penaltyMs);
        }
        reasons.push(`${server.text}: ${answer.kind === 'failed' ? answer.rcode : answer.why}`);
      }
    } finally {
      deadline.done();
    }
    return { kind: 'tempfail', why: reasons.join(', ') || 'Timeout' };
  }

  #byHealth(): readonly ServerAddress[] {
    const now = this.#clock.monotonic();
    const ill = (server: ServerAddress): boolean => (this.#penalties.get(server) ?? 0) > now;
    return [...this.#addresses.filter(server => !ill(server)), ...this.#addresses.filter(ill)];
  }
}

/** Shares one question among all who ask it; it is given up when the last of them is gone. */
function join(flight: Flight, signal: AbortSignal | undefined): Promise<Answer> {
  flight.waiters++;
  if (!signal) return flight.promise;
  // Dozens of questions under one deadline are no leak.
  setMaxListeners(0, signal);
  return new Promise(resolve => {
    const onAbort = (): void => {
      if (--flight.waiters === 0) flight.giveUp();
      resolve({ kind: 'tempfail', why: 'Aborted' });
    };
    signal.addEventListener('abort', onAbort, { once: true });
    void flight.promise.then(answer => {
      signal.removeEventListener('abort', onAbort);
      resolve(answer);
    });
  });
}
