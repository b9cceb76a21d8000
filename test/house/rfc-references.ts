// `core/RFC.md` and the references in the sources must tell the same.

export interface RfcRow {
  readonly number: number;
  readonly followed: string;
}

export function readRfcTable(markdown: string): readonly RfcRow[] {
  return [...markdown.matchAll(/^\| RFC (\d+) \| [^|]+ \| ([a-z]+) \| [^|]* \|$/gm)].map(match => ({
    number: Number(match[1]),
    followed: match[2] ?? '',
  }));
}

interface References {
  readonly mentioned: ReadonlyMap<number, string>;
  /** Those that are cited with a clause, so that code is governed by them. */
  readonly cited: ReadonlyMap<number, string>;
}

function readReferences(sources: readonly { readonly file: string; readonly source: string }[]): References {
  const mentioned = new Map<number, string>();
  const cited = new Map<number, string>();
  for (const { file, source } of sources)
    for (const match of source.matchAll(/\bRFCs? ?(\d{3,5})( §)?/g)) {
      mentioned.set(Number(match[1]), file);
      if (match[2]) cited.set(Number(match[1]), file);
    }
  return { mentioned, cited };
}

export function checkRfcs(
  markdown: string,
  sources: readonly { readonly file: string; readonly source: string }[],
): readonly string[] {
  const rows = readRfcTable(markdown);
  const { mentioned, cited } = readReferences(sources);
  const faults: string[] = [];
  const tableLines = markdown.match(/^\| RFC \d/gm)?.length ?? 0;
  if (tableLines !== rows.length) faults.push(`${tableLines - rows.length} row(s) of the table cannot be read`);
  const listed = new Map(rows.map(row => [row.number, row.followed]));
  for (const [number, file] of mentioned) if (!listed.has(number)) faults.push(`RFC ${number} (${file}) is not listed`);
  rows.forEach(({ number, followed }, at) => {
    const before = rows[at - 1];
    if (before && before.number >= number) faults.push(`RFC ${number} is out of order`);
    if (!['yes', 'partial', 'no'].includes(followed)) faults.push(`RFC ${number} is followed '${followed}'`);
    if (followed !== 'no' && !mentioned.has(number)) faults.push(`RFC ${number} is followed but never cited`);
    if (followed === 'no' && cited.has(number))
      faults.push(`RFC ${number} is not followed but governs ${cited.get(number)}`);
  });
  return faults;
}
