// Reads TAP (version 14) as `tap` writes it and finds what failed: the failed assertion itself with its diagnosis, below the
// names of the subtests and the file around it.

const point = /^( *)(not ok|ok) \d+(?: - (.*?))?(?: # (.*))?$/;

interface Failure {
  readonly depth: number;
  readonly lines: string[];
}

/** Each failed assertion as a block of text; what failed only because something inside it did is its heading. */
export function failuresOf(tap: string): readonly string[] {
  const open: Failure[] = [];
  const blocks: (readonly string[])[] = [];
  let diagnosis: { readonly indent: string; readonly into: string[] } | undefined;
  for (const line of tap.split('\n')) {
    if (diagnosis) {
      diagnosis.into.push(line);
      if (line === `${diagnosis.indent}  ...`) diagnosis = undefined;
      continue;
    }
    const found = point.exec(line);
    if (!found) continue;
    const [, indent = '', kind, name = '', directive = ''] = found;
    // Everything that stands deeper belongs to this point, which closes it.
    const inside = open.filter(each => each.depth > indent.length);
    for (const each of inside) open.splice(open.indexOf(each), 1);
    if (kind === 'ok' || /^(todo|skip)/i.test(directive)) continue;
    const lines = [`${indent}not ok ${name}`];
    if (inside.length === 0) diagnosis = { indent, into: lines };
    else lines.push(...inside.flatMap(each => each.lines));
    if (indent === '') blocks.push(lines);
    open.push({ depth: indent.length, lines });
  }
  return blocks.map(lines => lines.join('\n'));
}
