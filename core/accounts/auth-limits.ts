// Limits against guessing passwords, shared by all protocols that log in. Three counts of failed attempts:
// - per address (IPv6: per /64): one machine trying many accounts;
// - per account and address: one machine trying one account;
// - per account from everywhere: many machines trying one account. An address from which the account logged in lately is
//   exempt from this one, so that an attack does not lock the owner out.
// A client that repeats the same wrong password (a forgotten phone) is counted once. Only this file knows the limiter.
import { createHmac, randomBytes } from 'node:crypto';
import { BlockList, isIPv4 } from 'node:net';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import type { Clock } from '../lib/clock.ts';

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
  /** Which limit stands against it, for the log; undefined = go on. */
  blocked(attempt: Attempt): Promise<'address' | 'account' | undefined>;
  failed(attempt: Attempt): Promise<void>;
  succeeded(attempt: Attempt): Promise<void>;
}

const maxRemembered = 20_000;

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
      entries.delete(key);
      entries.set(key, clock.monotonic() + ttlMs);
      if (entries.size <= maxRemembered) return;
      const [oldest] = entries.keys();
      if (oldest !== undefined) entries.delete(oldest);
    },
  };
}

export function authLimits(options: AuthLimitOptions): AuthLimits {
  const { perAddress = 30, perAccountAndAddress = 10, perAccount = 100, windowSeconds: duration = 600 } = options;
  const byAddress = new RateLimiterMemory({ keyPrefix: 'address', points: perAddress, duration });
  const byBoth = new RateLimiterMemory({ keyPrefix: 'both', points: perAccountAndAddress, duration });
  const byAccount = new RateLimiterMemory({ keyPrefix: 'account', points: perAccount, duration });
  const isExempt = exemption(options.exempt ?? []);
  const secret = randomBytes(32);
  const wrong = memory(options.clock, duration * 1000);
  const trusted = memory(options.clock, 30 * 86_400_000);

  const keys = ({ address, account }: Attempt) => {
    const network = addressKey(address);
    return { network, both: `${network} ${account}`, account };
  };
  const spent = async (limiter: RateLimiterMemory, key: string): Promise<boolean> => {
    const found = await limiter.get(key);
    return found !== null && found.consumedPoints >= limiter.points;
  };

  return {
    async blocked(attempt) {
      if (isExempt(attempt.address)) return undefined;
      const { network, both, account } = keys(attempt);
      if (await spent(byAddress, network)) return 'address';
      if (await spent(byBoth, both)) return 'account';
      return !trusted.has(both) && (await spent(byAccount, account)) ? 'account' : undefined;
    },
    async failed(attempt) {
      const { network, both, account } = keys(attempt);
      if (attempt.password !== undefined) {
        const mark = createHmac('sha256', secret).update(`${both}\0${attempt.password}`).digest('base64');
        if (wrong.has(mark)) return;
        wrong.add(mark);
      }
      await Promise.all([byAddress.penalty(network), byBoth.penalty(both), byAccount.penalty(account)]);
    },
    async succeeded(attempt) {
      const { both } = keys(attempt);
      trusted.add(both);
      await byBoth.delete(both);
    },
  };
}
