// What can be said of an attachment or of a file inside one. The words are those of the option `is`.

export const kinds = {
  executable: 'a program, by content or by name: exe, dll, msi, scr, elf, lnk, apk …',
  script: 'a script that a click runs: js, vbs, wsf, hta, bat, ps1, chm …',
  macro: 'an Office document with macros, by content or by name',
  encrypted: 'an archive or document with a password',
  archive: 'an archive of any sort; Office documents are none',
  'disk-image': 'iso, img, vhd, udf … which a click mounts',
  'double-extension': '`invoice.pdf.exe`, also with blanks before the last one',
  'direction-override': 'a name with characters that turn the reading direction, so that `exe.fdp` looks like `pdf`',
  mismatch: 'the content is of another sort than the name says',
  unreadable: 'damaged, cut off, or in a format that cannot be opened, although the beginning says archive or document',
  limit: 'nested too deep, too many files, too large unpacked, or overlapping: a bomb, or not to be looked through',
} as const;

export type Kind = keyof typeof kinds;
export const kindNames = Object.keys(kinds) as [Kind, ...Kind[]];

/** An attachment, or a file inside one. */
export interface Item {
  /** Names from the outermost to this one, such as `a.zip/b.doc`; for display. */
  readonly path: string;
  /** Every name that it is given: readers differ in which field they take. */
  readonly names: readonly string[];
  /** By content; `application/octet-stream` where nobody knows. */
  readonly type: string;
  readonly kinds: readonly Kind[];
  /** 0 for a part of the message itself. */
  readonly depth: number;
  /** Why it is unreadable, beyond a limit or of another sort. */
  readonly why?: string;
}

export interface InspectLimits {
  readonly maxDepth: number;
  /** Files in all archives of one attachment. */
  readonly maxFiles: number;
  /** Bytes unpacked, of one attachment. */
  readonly maxUnpacked: number;
}
