// Limits against guessing passwords, shared by all protocols that log in. Three counts of failed attempts:
// - per address (IPv6: per /64): one machine trying many accounts;
// - per account and address: one machine trying one account;
// - per account from everywhere: many machines trying one account. An address from which the account logged in lately is
//   exempt from this one, so that an attack does not lock the owner out.
// A client that repeats the same wrong password (a forgotten phone) is counted once.
//
// An attempt under way takes the place of a failure until it is decided, so that attempts side by side are no more guesses
// than attempts one after the other. Where failures and attempts under way together reach a limit, the next one waits for
// its turn: clients that open ten connections at once all log in. It is refused only once the failures alone reach it.
// Looking and counting are one step (no await between), hence counters of our own.

import { createHmac, randomBytes } from 'node:crypto';
import { BlockList, isIPv4 } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { keepNewest } from '../lib/keep-newest.ts';
import type { AuthResult } from './directory.ts';

export interface AuthLimitOptions {
  /** Failures that are let pass in `windowSeconds`, then refusal until the window ends. Defaults: 30, 10, 100. */
  readonly perAddress?: number;
  readonly perAccountAndAddress?: number;
  readonly perAccount?: number;
  /** Default 600. */
  readonly windowSeconds?: number;
  /** Networks that are never limited (CIDR), such as the own webmail host. */
  readonly exempt?: readonly string[];
  readonly clock: Clock;
}

export interface Attempt {
  readonly address: string;
  readonly account: string;
  /** Absent where the mechanism does not show it. */
  readonly password?: string;
}

export interface AuthLimits {
  /** The sentence for the log where failures have reached a limit; undefined = go on. */
  blocked(attempt: Attempt): string | undefined;
  /**
   * What `judge` says, asked when it is the attempt's turn: `refused` counts as a failure, `ok` clears those of this
   * account and address, `unavailable` and a rejection count for nothing. `unavailable` without asking where a limit
   * stands against it. `judge` must settle: others may be waiting for it.
   */
  within(attempt: Attempt, judge: () => Promise<AuthResult>): Promise<AuthResult>;
}

const maxRemembered = 20_000;
const maxWaiting = 1000;

/** IPv4 as it is; IPv6 by its /64, which one customer holds whole. */
export function addressKey(given: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(given)?.[1];
  if (mapped !== undefined || isIPv4(given) || !given.includes(':')) return mapped ?? given;
  const [head = '', tail] = given.toLowerCase().split('%', 1)[0]?.split('::') ?? [];
  const left = head.split(':').filter(group => group !== '');
  const right = tail?.split(':').filter(group => group !== '') ?? [];
  const gap = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: gap }, () => '0'), ...right];
  return `${groups
    .slice(0, 4)
    .map(group => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}

function exemption(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/');
    const family = isIPv4(address) ? 'ipv4' : 'ipv6';
    list.addSubnet(address, Number(bits ?? (family === 'ipv4' ? 32 : 128)), family);
  }
  return address => {
    const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
    return list.check(plain, isIPv4(plain) ? 'ipv4' : 'ipv6');
  };
}

/** A set that forgets its oldest entries and those older than `ttlMs`. */
function memory(clock: Clock, ttlMs: number) {
  const entries = new Map<string, number>();
  return {
    has: (key: string): boolean => (entries.get(key) ?? 0) > clock.monotonic(),
    add(key: string): void {
      keepNewest(entries, key, clock.monotonic() + ttlMs, maxRemembered);
    },
  };
}

/** Failures by key, for `windowMs` from the first of them, and attempts under way. */
function counter(clock: Clock, limit: 'address' | 'account', points: number, windowMs: number) {
  const failures = new Map<string, { count: number; readonly until: number }>();
  const underWay = new Map<string, number>();
  const current = (key: string) => {
    const found = failures.get(key);
    return found !== undefined && found.until > clock.monotonic() ? found : undefined;
  };
  const room = (key: string): number => points - (current(key)?.count ?? 0);
  return {
    limit,
    spent: (key: string): boolean => room(key) <= 0,
    full: (key: string): boolean => room(key) <= (underWay.get(key) ?? 0),
    enter: (key: string): void => void underWay.set(key, (underWay.get(key) ?? 0) + 1),
    leave(key: string): void {
      const left = (underWay.get(key) ?? 0) - 1;
      if (left > 0) underWay.set(key, left);
      else underWay.delete(key);
    },
    fail(key: string): void {
      const known = current(key);
      if (known) {
        known.count++;
        return;
      }
      keepNewest(failures, key, { count: 1, until: clock.monotonic() + windowMs }, maxRemembered);
    },
    forget: (key: string): void => void failures.delete(key),
  };
}

type Turn = { readonly kind: 'go'; readonly leave: () => void } | { readonly kind: 'blocked'; readonly why: string };

interface Waiting {
  readonly attempt: Attempt;
  readonly resolve: (turn: Turn) => void;
}

export function authLimits(options: AuthLimitOptions): AuthLimits {
  const { perAddress = 30, perAccountAndAddress = 10, perAccount = 100, windowSeconds = 600, clock } = options;
  const windowMs = windowSeconds * 1000;
  const byAddress = counter(clock, 'address', perAddress, windowMs);
  const byBoth = counter(clock, 'account', perAccountAndAddress, windowMs);
  const byAccount = counter(clock, 'account', perAccount, windowMs);
  const isExempt = exemption(options.exempt ?? []);
  const secret = randomBytes(32);
  const wrong = memory(clock, windowMs);
  const trusted = memory(clock, 30 * 86_400_000);
  const waiting = new Set<Waiting>();

  const keys = ({ address, account }: Attempt) => {
    const network = addressKey(address);
    return { network, both: `${network} ${account}`, account };
  };

  /** The counters that may stand against it, each with its key. */
  function boundsOf(attempt: Attempt) {
    if (isExempt(attempt.address)) return [];
    const { network, both, account } = keys(attempt);
    const here = [{ by: byAddress, key: network } as const, { by: byBoth, key: both } as const];
    return trusted.has(both) ? here : [...here, { by: byAccount, key: account } as const];
  }

  function whyBlocked(bounds: ReturnType<typeof boundsOf>): string | undefined {
    const spent = bounds.find(({ by, key }) => by.spent(key));
    return spent && `too many failed logins of this ${spent.by.limit}`;
  }

  /** With `go` it is under way until it leaves; undefined: it has to wait. */
  function look(attempt: Attempt): Turn | undefined {
    const bounds = boundsOf(attempt);
    const why = whyBlocked(bounds);
    if (why !== undefined) return { kind: 'blocked', why };
    // Then an attempt with that key is under way: when it leaves, those that wait are looked at again.
    if (bounds.some(({ by, key }) => by.full(key))) return undefined;
    for (const { by, key } of bounds) by.enter(key);
    return {
      kind: 'go',
      leave() {
        for (const { by, key } of bounds) by.leave(key);
        wakeWaiting();
      },
    };
  }

  function wakeWaiting(): void {
    for (const each of waiting) {
      const turn = look(each.attempt);
      if (turn === undefined) continue;
      waiting.delete(each);
      each.resolve(turn);
    }
  }

  async function turnOf(attempt: Attempt): Promise<Turn> {
    const turn = look(attempt);
    if (turn !== undefined) return turn;
    if (waiting.size >= maxWaiting) return { kind: 'blocked', why: 'too many logins are waiting' };
    return new Promise(resolve => waiting.add({ attempt, resolve }));
  }

  function failed(attempt: Attempt): void {
    const { network, both, account } = keys(attempt);
    if (attempt.password !== undefined) {
      const mark = createHmac('sha256', secret).update(`${both}\0${attempt.password}`).digest('base64');
      if (wrong.has(mark)) return;
      wrong.add(mark);
    }
    byAddress.fail(network);
    byBoth.fail(both);
    byAccount.fail(account);
  }

  function succeeded(attempt: Attempt): void {
    const { both } = keys(attempt);
    trusted.add(both);
    byBoth.forget(both);
  }

  return {
    blocked: attempt => whyBlocked(boundsOf(attempt)),
    async within(attempt, judge) {
      const turn = await turnOf(attempt);
      if (turn.kind === 'blocked') return { kind: 'unavailable', why: turn.why };
      try {
        const result = await judge();
        if (result.kind === 'refused') failed(attempt);
        if (result.kind === 'ok') succeeded(attempt);
        return result;
      } finally {
        turn.leave();
      }
    },
  };
}
