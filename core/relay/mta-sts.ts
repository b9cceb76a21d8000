// MTA-STS (RFC 8461): which hosts may take mail for a domain, and that their certificates must be good. Fetching and
// parsing is mailauth's; this file decides when to ask again and keeps what was learnt.

import { getPolicy, validateMx } from 'mailauth/lib/mta-sts.js';
import type { Clock } from '../lib/clock.ts';
import { keepNewest } from '../lib/keep-newest.ts';
import type { Dns } from '../plugin/contract.ts';
import type { Migration, State } from '../state/state.ts';

export interface StsPolicy {
  readonly mode: 'enforce' | 'testing' | 'none';
  /** Host names, `*.` for one label. */
  readonly mx: readonly string[];
}

export interface MtaSts {
  /** Never rejects; a domain whose policy cannot be learnt has none (RFC 8461 §5.1) unless one is remembered. */
  policy(domain: string): Promise<StsPolicy>;
}

export const stsMigrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      'CREATE TABLE relay_sts (domain TEXT NOT NULL PRIMARY KEY, expires_at BIGINT NOT NULL, policy TEXT NOT NULL)',
    ],
  },
];

export interface MtaStsParts {
  readonly dns: Dns;
  readonly clock: Clock;
  /** Remembers policies over a restart (RFC 8461 §3.1: the cache is what protects). `stsMigrations` must have run. */
  readonly state?: State;
  /** For tests. */
  readonly fetchPolicy?: typeof getPolicy;
}

type Known = NonNullable<Parameters<typeof getPolicy>[1]>;

/** The record is looked at again after so long. RFC 8461 §3.3 leaves it to the sender; the TXT record has a TTL. */
const recheckMs = 300_000;
const maxEntries = 5_000;
const nothing: StsPolicy = { mode: 'none', mx: [] };

const resolverOf = (dns: Dns) => async (name: string, type: string) => {
  const answer = type === 'TXT' ? await dns.txt(name) : type === 'AAAA' ? await dns.aaaa(name) : await dns.a(name);
  if (answer.kind === 'found') return type === 'TXT' ? answer.records.map(record => [record]) : [...answer.records];
  throw Object.assign(new Error(`Look up ${type} ${name}: ${answer.kind}`), {
    code: answer.kind === 'none' ? 'ENOTFOUND' : 'ESERVFAIL',
  });
};

export function createMtaSts(parts: MtaStsParts): MtaSts {
  const { clock, state } = parts;
  const fetch = parts.fetchPolicy ?? getPolicy;
  const resolver = resolverOf(parts.dns);
  const cache = new Map<string, { readonly checkedAt: number; readonly answer: Promise<StsPolicy> }>();

  async function remembered(domain: string): Promise<Known | undefined> {
    const rows = await state?.query('SELECT policy FROM relay_sts WHERE domain = ? AND expires_at > ?', [
      domain,
      clock.now(),
    ]);
    const text = rows?.[0]?.['policy'];
    return typeof text === 'string' ? (JSON.parse(text) as Known) : undefined;
  }

  async function learn(domain: string): Promise<StsPolicy> {
    const known = await remembered(domain);
    const { policy, status } = await fetch(domain, known, { resolver, strict: true, timeout: 20_000 } as Parameters<
      typeof getPolicy
    >[2]);
    if (status === 'found' && state && policy.expires !== undefined)
      await state
        .write([
          {
            sql: `INSERT INTO relay_sts (domain, expires_at, policy) VALUES (?, ?, ?)
            ON CONFLICT (domain) DO UPDATE SET expires_at = excluded.expires_at, policy = excluded.policy`,
            params: [domain, new Date(policy.expires).getTime(), JSON.stringify(policy)],
          },
        ])
        // What cannot be remembered counts now all the same.
        .catch(() => undefined);
    if (policy.mode !== 'enforce' && policy.mode !== 'testing') return nothing;
    return { mode: policy.mode, mx: policy.mx ?? [] };
  }

  return {
    policy(domain) {
      const found = cache.get(domain);
      const now = clock.monotonic();
      if (found && now - found.checkedAt < recheckMs) return found.answer;
      const answer = learn(domain).catch(() => nothing);
      keepNewest(cache, domain, { checkedAt: now, answer }, maxEntries);
      return answer;
    },
  };
}

/** RFC 8461 §4.1. */
export const stsAllows = (policy: StsPolicy, host: string): boolean =>
  policy.mode !== 'enforce' || validateMx(host, { mode: policy.mode, mx: [...policy.mx] } as Known).valid;
