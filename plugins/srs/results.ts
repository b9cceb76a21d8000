import { transactionResult } from '../../core/plugin/index.ts';

/** Recipients that are rewritten senders come back: their text → whom the bounce is for. */
export const srsReversed = transactionResult<Readonly<Record<string, string>>>('srs.reversed');
