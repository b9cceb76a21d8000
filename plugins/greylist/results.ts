import { transactionResult } from '../../core/plugin/index.ts';

export interface GreylistResult {
  /** `passed`: it came back in time; `known`: it did so before; `spared`: not asked, for the reason in `why`. */
  readonly kind: 'spared' | 'known' | 'passed' | 'deferred';
  readonly why: string;
}

/** Absent for our own mail. */
export const greylistResult = transactionResult<GreylistResult>('greylist.result');
