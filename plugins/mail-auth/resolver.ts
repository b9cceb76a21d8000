// The gateway's resolver in the form that the package expects: records or an error with a code of node:dns. It has
// cache, limits and the deadline already; here the questions that failed are kept, for they decide what "temperror" means.
import type { Dns } from '../../core/plugin/index.ts';

export type Resolver = (name: string, type: string) => Promise<readonly unknown[]>;

export interface CheckResolver {
  readonly resolve: Resolver;
  /** `TYPE name: reason` of each question that nobody answered. */
  readonly failures: readonly string[];
}

class DnsError extends Error {
  override readonly name = 'DnsError';
  readonly code: 'ENOTFOUND' | 'ENODATA' | 'ETIMEOUT';
  constructor(code: DnsError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export function createResolver(dns: Dns, signal: AbortSignal): CheckResolver {
  const failures: string[] = [];
  async function records<T>(
    name: string,
    type: 'A' | 'AAAA' | 'CNAME' | 'PTR' | 'TXT' | 'MX',
    use: (record: T) => unknown,
  ) {
    const answer = await dns.query(name, type, signal);
    if (answer.kind === 'found') return (answer.records as readonly T[]).map(use);
    if (answer.kind === 'none') throw new DnsError(answer.exists ? 'ENODATA' : 'ENOTFOUND', `No ${type} of ${name}`);
    failures.push(`${type} ${name}: ${answer.why}`);
    throw new DnsError('ETIMEOUT', answer.why);
  }
  return {
    failures,
    resolve(name, type) {
      switch (type) {
        case 'TXT':
          return records<string>(name, type, text => [text]);
        case 'MX':
          return records<{ exchange: string; preference: number }>(name, type, ({ exchange, preference }) => ({
            exchange,
            priority: preference,
          }));
        case 'A':
        case 'AAAA':
        case 'CNAME':
        case 'PTR':
          return records<string>(name, type, text => text);
        default:
          return Promise.reject(new DnsError('ENODATA', `Type ${type} is not asked for`));
      }
    },
  };
}
