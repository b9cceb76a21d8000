import { type ListHit, sessionResult, transactionResult } from '../../core/plugin/index.ts';

export interface ListFindings {
  readonly hits: readonly ListHit[];
  /** Allow lists that know the client. */
  readonly allowed: readonly string[];
  /** Lists that did not answer, with the reason: nothing is known of these. */
  readonly unavailable: readonly string[];
  /** Sum of the weights. */
  readonly score: number;
}

/** Of the client's address. */
export const dnsblClient = sessionResult<ListFindings>('dnsbl.client');
/** Of domain names and address together, for this message. */
export const dnsblTotal = transactionResult<ListFindings>('dnsbl.total');
