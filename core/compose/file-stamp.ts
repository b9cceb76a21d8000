// Whether a file, or a folder with all that is in it, is still as it was: by what a change cannot leave as it was.
import { readdirSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';

/** Entries of a folder that are looked at. */
const maxEntries = 10_000;

const describe = ({ ino, size, mtimeMs, ctimeMs }: Stats): string => `${ino} ${size} ${mtimeMs} ${ctimeMs}`;

function stampOf(file: string): string {
  try {
    return describe(statSync(file));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unreadable';
  }
}

/** Differs after every change of the file, its absence included; for a folder, of anything below it. */
export function fileStamp(file: string): string {
  const own = stampOf(file);
  try {
    if (!statSync(file).isDirectory()) return own;
    const names = readdirSync(file, { recursive: true, encoding: 'utf8' }).sort().slice(0, maxEntries);
    return [own, ...names.map(name => `${name} ${stampOf(path.join(file, name))}`)].join('\n');
  } catch {
    return own;
  }
}
