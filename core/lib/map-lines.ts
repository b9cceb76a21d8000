// Lines of a Postfix lookup table in text form, as postmap(1) reads them: `key value`, one entry a line.

export interface MapLine {
  /** 1-based, of the first of the lines that make it up. */
  readonly line: number;
  readonly text: string;
}

/** A line that begins with white space continues the one before; empty lines and those that begin with `#` do not count. */
export function mapLines(text: string): readonly MapLine[] {
  const found: { line: number; text: string }[] = [];
  text.split(/\r?\n/).forEach((raw, index) => {
    if (/^\s*(?:#|$)/.test(raw)) return;
    const last = found.at(-1);
    if (/^\s/.test(raw) && last) last.text += ` ${raw.trim()}`;
    else found.push({ line: index + 1, text: raw.trim() });
  });
  return found;
}
