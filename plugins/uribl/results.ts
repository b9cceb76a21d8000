import { type ListHit, transactionResult } from '../../core/plugin/index.ts';

export interface UriblFindings {
  /** For each list its worst hit. */
  readonly hits: readonly ListHit[];
  /** Lists that did not answer, with the reason: nothing is known of these. */
  readonly unavailable: readonly string[];
  /** Sum of the weights. */
  readonly score: number;
}

/** Of the hosts that a message links to; absent where it was not looked at. */
export const uriblFindings = transactionResult<UriblFindings>('uribl.findings');
