import { transactionResult } from '../../core/plugin/index.ts';

/** Limits that this message went over, as `account alice@example.org: 101 messages in 1h, limit 100`. */
export const exceededLimits = transactionResult<readonly string[]>('rate-limit.exceeded');
