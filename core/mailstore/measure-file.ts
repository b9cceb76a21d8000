// What the index must know of a message file that its name may not tell: its size on the wire and its date.
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';
import { wireSize } from './file-name.ts';

export interface Measure {
  /** Bytes with CRLF line ends. */
  readonly size: number;
  /** INTERNALDATE: the file's mtime, as other Maildir servers have it. */
  readonly date: number;
}

const readAtOnce = 8;
const statAtOnce = 500;

/** Bytes that the message has once every bare LF is a CRLF. */
export function sizeWithCrlf(bytes: Uint8Array): number {
  let size = bytes.length;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) if (bytes[at - 1] !== 13) size++;
  return size;
}

async function measureByReading(disk: Disk, file: string): Promise<number | undefined> {
  try {
    return sizeWithCrlf(await disk.read(file));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** One measure per file, in order; undefined for a file that is gone. */
export async function measureFiles(
  disk: Disk,
  files: readonly { readonly base: string; readonly file: string }[],
): Promise<readonly (Measure | undefined)[]> {
  const measures: (Measure | undefined)[] = files.map(() => undefined);
  const unsized: number[] = [];
  for (const [at, { base, file }] of files.entries()) {
    if (at % statAtOnce === statAtOnce - 1) await new Promise(resolve => setImmediate(resolve));
    const stat = disk.stat(file);
    if (!stat || stat.isDirectory) continue;
    const size = wireSize(base);
    measures[at] = { size: size ?? 0, date: Math.round(stat.mtimeMs) };
    if (size === undefined) unsized.push(at);
  }
  const workers = Array.from({ length: readAtOnce }, async () => {
    for (let at = unsized.pop(); at !== undefined; at = unsized.pop()) {
      const size = await measureByReading(disk, files[at]?.file ?? '');
      const measure = measures[at];
      measures[at] = measure && size !== undefined ? { ...measure, size } : undefined;
    }
  });
  await Promise.all(workers);
  return measures;
}
