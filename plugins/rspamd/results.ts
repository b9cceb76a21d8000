import { transactionResult } from '../../core/plugin/index.ts';

export { type SpamScore, type SpamSymbol, spamScore, spamScores } from '../spamassassin/results.ts';

/** What rspamd itself would do: `no action`, `add header`, `soft reject`, `reject` … */
export const rspamdAction = transactionResult<string>('rspamd.action');
