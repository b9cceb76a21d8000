import { type MimePart, walkParts } from '../../../core/mail/mime.ts';

/** Offsets lie inside each other and in order; line counts are those of the bytes. */
export function checkOffsets(message: Buffer, root: MimePart): string | undefined {
  for (const part of walkParts(root)) {
    const inner = part.message ? [part.message] : part.parts;
    let at = part.bodyStart;
    if (part.start > part.bodyStart || part.bodyStart > part.end || part.end > message.length)
      return `range of ${part.section}`;
    for (const child of inner) {
      if (child.start < at || child.end > part.end) return `child ${child.section} outside ${part.section}`;
      at = child.end;
    }
    if (part.headers.size > part.bodyStart - part.start) return `header of ${part.section}`;
    if (!message.subarray(part.start, part.start + part.headers.raw.length).equals(part.headers.raw))
      return `header bytes of ${part.section}`;
    const lines = message.subarray(part.bodyStart, part.end).reduce((sum, byte) => sum + (byte === 0x0a ? 1 : 0), 0);
    if (lines !== part.lines) return `${part.lines} lines of ${part.section}, not ${lines}`;
  }
  return undefined;
}
