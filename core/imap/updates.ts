// Tells the client what happened in the selected mailbox (RFC 3501 §7.3, §7.4).
import { encodeFlags, systemFlags } from './flags.ts';
import type { Output } from './output.ts';
import type { Update, View } from './view.ts';

export function writeUpdates(out: Output, view: View, updates: readonly Update[]): void {
  for (const update of updates) out.untagged(encodeUpdate(update, view));
}

function encodeUpdate(update: Update, view: View): string {
  switch (update.kind) {
    case 'expunge':
      return `${update.seq} EXPUNGE`;
    case 'exists':
      return `${update.count} EXISTS`;
    case 'recent':
      return `${update.count} RECENT`;
    case 'keywords':
      return encodeFlagsLine(view);
    case 'flags': {
      const { seq, record } = update;
      const modseq = view.tellsModseq ? ` MODSEQ (${record.modseq})` : '';
      return `${seq} FETCH (FLAGS ${encodeFlags(record, view.isRecent(record.uid))}${modseq})`;
    }
  }
}

export const encodeFlagsLine = (view: View): string =>
  `FLAGS (${[...systemFlags, ...view.mailbox.keywords].join(' ')})`;
