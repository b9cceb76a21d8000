import { type ResultKey, transactionResult } from '../../core/plugin/index.ts';

/** Authentication-Results fields that `auth` put on top of the message: ours, and not forged. */
export const ownResultFields: ResultKey<number> = transactionResult('auth.resultFields');
