import { transactionResult } from '../../core/plugin/index.ts';
import type { Kind } from './kinds.ts';

export interface AttachmentFound {
  /** Names from the outermost to the file, such as `a.zip/b.doc`. */
  readonly path: string;
  readonly type: string;
  readonly kinds: readonly Kind[];
  readonly action: 'allow' | 'tag' | 'strip' | 'quarantine' | 'reject' | undefined;
}

/** Attachments, and files inside them, that are of a kind or met a rule. */
export const attachmentsFound = transactionResult<readonly AttachmentFound[]>('attachments.found');
