import { transactionResult } from '../../core/plugin/index.ts';

/** One line of the sum. */
export interface ScoreLine {
  /** Name of the evidence, as `points` has it: `dnsbl.listed`, `spf.fail` … */
  readonly name: string;
  /** What it rests on: the list, the rule, the domain. */
  readonly detail: string;
  readonly points: number;
}

export interface ScoreTotal {
  readonly total: number;
  readonly lines: readonly ScoreLine[];
  readonly disposition: 'clean' | 'tag' | 'quarantine' | 'reject';
}

/** Absent for mail that is not scored (our own). */
export const scoreTotal = transactionResult<ScoreTotal>('score.total');
