// What a plugin under test is given: a real resolver on a real DNS server, and accounts that can be told to fail, which
// real ones cannot.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Logger, pino } from 'pino';
import { readSecret } from '../compose/secret.ts';
import { type CidrSet, cidrSet } from '../lib/cidr.ts';
import { type Clock, systemClock } from '../lib/clock.ts';
import { createDns } from '../net/dns.ts';
import type { Dns, Host, Mailboxes, Memory } from '../plugin/contract.ts';
import { StateError } from '../state/state.ts';
import { type DnsServer, startDnsServer, type Zone } from './dns-server.ts';

export interface FakeAccounts {
  readonly local?: readonly string[];
  readonly virtual?: readonly string[];
  readonly relay?: readonly string[];
  /** Those of them that name no source of recipients. */
  readonly unchecked?: readonly string[];
  /** Address in lower case → password. */
  readonly users?: Readonly<Record<string, string>>;
}

export interface HostSetup {
  /** Zones for a DNS server on loopback, or a resolver. */
  readonly dns?: Zone | Dns;
  readonly accounts?: FakeAccounts;
  readonly relayNetworks?: readonly string[];
  /** Default: one that is forgotten with the host. */
  readonly memory?: Memory;
  readonly env?: Readonly<Record<string, string>>;
  readonly clock?: Clock;
  readonly log?: Logger;
  /** Folder that `resolvePath` counts from; default: the data folder. */
  readonly configFolder?: string;
}

export interface TestHost extends Host {
  readonly dnsServer: DnsServer | undefined;
  /** Accounts and memory cannot answer, or answer again. */
  setUnavailable(why: string | undefined): void;
  /** How often a backend (DNS, accounts, memory) failed so far. */
  readonly failures: () => number;
  readonly proofs: Proofs;
  readonly submitted: Parameters<Host['submit']>[0][];
  close(): Promise<void>;
}

const isResolver = (dns: Zone | Dns): dns is Dns => typeof (dns as Dns).query === 'function';

/** Counts every answer that says nothing. */
function watched(dns: Dns, onFailure: () => void): Dns {
  const watch = async <T extends { readonly kind: string }>(answer: Promise<T>): Promise<T> => {
    const settled = await answer;
    if (settled.kind === 'tempfail') onFailure();
    return settled;
  };
  return {
    servers: dns.servers,
    a: (name, signal) => watch(dns.a(name, signal)),
    aaaa: (name, signal) => watch(dns.aaaa(name, signal)),
    txt: (name, signal) => watch(dns.txt(name, signal)),
    mx: (name, signal) => watch(dns.mx(name, signal)),
    ptr: (address, signal) => watch(dns.ptr(address, signal)),
    query: (name, type, signal) => watch(dns.query(name, type, signal)),
  };
}

/** What the client of a `sasl` hook proved, by the name of the exchange. */
export type Proofs = Map<string, { readonly username: string; readonly holds: boolean }>;

function fakeMailboxes(
  accounts: FakeAccounts,
  proofs: Proofs,
  down: () => string | undefined,
  onFailure: () => void,
): Mailboxes {
  const users = accounts.users ?? {};
  const unavailable = (why: string) => {
    onFailure();
    return { kind: 'unavailable', why } as const;
  };
  return {
    domainKind: domain =>
      (['local', 'virtual', 'relay'] as const).find(kind => accounts[kind]?.includes(domain)) ?? 'foreign',
    async exists(address) {
      const why = down();
      if (why !== undefined) return unavailable(why);
      const whole = address.toLowerCase();
      const user = whole.replace(/^([^+@]+)\+[^@]*@/, '$1@');
      const known = users[whole] !== undefined || users[user] !== undefined;
      return { kind: known ? 'found' : accounts.unchecked?.includes(whole.split('@')[1] ?? '') ? 'unchecked' : 'none' };
    },
    async authenticate({ username, password }) {
      const why = down();
      if (why !== undefined) return unavailable(why);
      return users[username.toLowerCase()] === password && password !== ''
        ? { kind: 'ok', name: username.toLowerCase() }
        : { kind: 'refused', why: 'Wrong password' };
    },
    async judge(exchange) {
      const why = down();
      if (why !== undefined) return unavailable(why);
      const proof = proofs.get(exchange);
      if (!proof) return { kind: 'unavailable', why: 'The exchange is over' };
      const name = proof.username.toLowerCase();
      return proof.holds && users[name] !== undefined ? { kind: 'ok', name } : { kind: 'refused', why: 'Wrong proof' };
    },
  };
}

function forgetfulMemory(clock: Clock): Memory {
  const values = new Map<string, { readonly value: string; readonly expiresAt: number }>();
  const living = (key: string) => {
    const found = values.get(key);
    return found && found.expiresAt > clock.now() ? found : undefined;
  };
  return {
    get: async key => living(key)?.value,
    async set(key, value, ttlMs) {
      values.set(key, { value, expiresAt: clock.now() + ttlMs });
    },
    async delete(key) {
      const there = living(key) !== undefined;
      values.delete(key);
      return there;
    },
    async list(prefix, limit) {
      const keys = [...values.keys()].filter(key => key.startsWith(prefix)).sort();
      const found = keys.flatMap(key => {
        const entry = living(key);
        return entry === undefined ? [] : [{ key, ...entry }];
      });
      return found.slice(0, limit);
    },
  };
}

/** The memory, which can be told to fail. */
function fallibleMemory(memory: Memory, down: () => string | undefined, onFailure: () => void): Memory {
  const ask = async <T>(run: () => Promise<T>): Promise<T> => {
    const why = down();
    if (why === undefined) return run();
    onFailure();
    throw new StateError('unavailable', why);
  };
  return {
    get: key => ask(() => memory.get(key)),
    set: (key, value, ttlMs) => ask(() => memory.set(key, value, ttlMs)),
    delete: key => ask(() => memory.delete(key)),
    list: (prefix, limit) => ask(() => memory.list(prefix, limit)),
  };
}

export async function testHost(setup: HostSetup = {}): Promise<TestHost> {
  const clock = setup.clock ?? systemClock;
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-plugin-'));
  const dnsServer = setup.dns && isResolver(setup.dns) ? undefined : await startDnsServer(setup.dns as Zone);
  const own = dnsServer && createDns({ clock, servers: [dnsServer.address], attemptMs: 3_000, totalMs: 8_000 });
  const proofs: Proofs = new Map();
  let failures = 0;
  let down: string | undefined;
  const onFailure = (): void => {
    failures++;
  };
  const relay: CidrSet = cidrSet(setup.relayNetworks ?? []);
  const submitted: Parameters<Host['submit']>[0][] = [];
  return {
    hostname: 'gateway.test',
    postmaster: undefined,
    log: setup.log ?? pino({ level: 'silent' }),
    clock,
    dns: watched(own ?? (setup.dns as Dns), onFailure),
    mailboxes: fakeMailboxes(setup.accounts ?? {}, proofs, () => down, onFailure),
    proofs,
    // Rules need a whole gateway: test/core/gateway/sieve.test.ts.
    rules: { open: async () => ({ deliver: async () => ({ kind: 'continue' }) }) },
    memory: fallibleMemory(setup.memory ?? forgetfulMemory(clock), () => down, onFailure),
    isRelayClient: address => relay.has(address),
    dataDir: folder,
    resolvePath: name => path.resolve(setup.configFolder ?? folder, name),
    readSecret(secret) {
      const read = readSecret(secret, setup.configFolder ?? folder, setup.env ?? {});
      if (read instanceof Error) throw read;
      return read;
    },
    onForward: () => undefined,
    async submit(mail) {
      submitted.push(mail);
      return `q${submitted.length}`;
    },
    dnsServer,
    submitted,
    failures: () => failures,
    setUnavailable(why) {
      down = why;
    },
    async close() {
      own?.close();
      await dnsServer?.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
