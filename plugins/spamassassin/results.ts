// What spam filters found: the same shape and the same keys for every engine (spamassassin, rspamd).
import { type SpamScore, transactionResult } from '../../core/plugin/index.ts';

export type { SpamScore, SpamSymbol } from '../../core/plugin/index.ts';

/** Of the last engine that ran. Absent where none did, or where it did not look (own mail, too large). */
export const spamScore = transactionResult<SpamScore>('spam.score');
/** Of all engines that ran, in their order. */
export const spamScores = transactionResult<readonly SpamScore[]>('spam.scores');
