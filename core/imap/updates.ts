// Tells the client what happened in the selected mailbox (RFC 3501 §7.3, §7.4).
import { encodeFlags, systemFlags } from './flags.ts';
import type { Output } from './output.ts';
import type { Update, View } from './view.ts';
import { encodeNumberSet } from './wire/encoder.ts';

export function writeUpdates(out: Output, view: View, updates: readonly Update[]): void {
  const vanished = view.tellsVanished ? updates.flatMap(update => (update.kind === 'expunge' ? update.uid : [])) : [];
  if (vanished.length > 0) out.untagged(`VANISHED ${encodeNumberSet(vanished)}`);
  for (const update of updates)
    if (update.kind !== 'expunge' || !view.tellsVanished) out.untagged(encodeUpdate(update, view));
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
      const flags = `FLAGS ${encodeFlags(record, view.isRecent(record.uid))}`;
      // RFC 7162 §3.2.4.
      return view.tellsModseq
        ? `${seq} FETCH (UID ${record.uid} ${flags} MODSEQ (${record.modseq}))`
        : `${seq} FETCH (${flags})`;
    }
  }
}

export const encodeFlagsLine = (view: View): string =>
  `FLAGS (${[...systemFlags, ...view.mailbox.keywords].join(' ')})`;
