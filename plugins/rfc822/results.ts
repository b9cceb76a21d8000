import { transactionResult } from '../../core/plugin/index.ts';

/** Names of the rules that a message breaks. */
export const brokenRules = transactionResult<readonly string[]>('rfc822.broken');
