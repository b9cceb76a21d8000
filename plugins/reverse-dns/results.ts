import { sessionResult } from '../../core/plugin/index.ts';

/** RFC 8601 §2.7.3 (iprev): does the client's address have a name, and does that name have the address? */
export interface ReverseDns {
  /** `unknown`: the DNS did not say. */
  readonly kind: 'confirmed' | 'unconfirmed' | 'missing' | 'unknown';
  /** The confirmed name, or the first that the address claims. */
  readonly name?: string;
  /** The name is one that providers give to lines of customers: made from the address, or with words such as `dsl`. */
  readonly generic: boolean;
}

/** Absent for clients that are not looked at. */
export const reverseDnsResult = sessionResult<ReverseDns>('reverse-dns.result');
