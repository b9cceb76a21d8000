// `maildirsize` of the Maildir++ quota: first line the limit (`<bytes>S,<messages>C`), then one `<bytes> <messages>` line
// per change; their sum is what the Maildir holds. Written by whoever changes something, counted anew when it grew
// beyond 5120 bytes or shows that the limit is passed. It exists only where a limit was set.
// https://www.courier-mta.org/imap/README.maildirquota.html
import path from 'node:path';
import type { Disk } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { physicalSize } from './file-name.ts';
import { nameOf } from './folder-name.ts';
import { replaceFile, type StoreParts } from './store-parts.ts';

const maxFileBytes = 5120;

export interface Usage {
  readonly bytes: number;
  readonly messages: number;
}

interface SizeFile extends Usage {
  readonly limit: string;
  readonly mustRecount: boolean;
}

const sizeFile = (root: string): string => path.join(root, 'maildirsize');

function parse(text: string): SizeFile | undefined {
  const [limit, ...lines] = text.split('\n');
  if (limit === undefined || lines.length === 0) return undefined;
  let bytes = 0;
  let messages = 0;
  for (const line of lines) {
    const match = /^\s*(-?\d{1,16})\s+(-?\d{1,16})\s*$/.exec(line);
    if (match) {
      bytes += Number(match[1]);
      messages += Number(match[2]);
    } else if (line.trim() !== '') return undefined;
  }
  return { limit, bytes, messages, mustRecount: text.length > maxFileBytes || bytes < 0 || messages < 0 };
}

/** Counts the files of all folders: sizes from names, else from the disk. */
export async function countUsage(disk: Disk, root: string): Promise<Usage> {
  const directories = ['', ...(await disk.list(root)).filter(entry => nameOf(entry) !== undefined)];
  let bytes = 0;
  let messages = 0;
  for (const directory of directories) {
    for (const part of ['new', 'cur']) {
      const folder = path.join(root, directory, part);
      if (!disk.stat(folder)) continue;
      for (const name of await disk.list(folder)) {
        if (name.startsWith('.')) continue;
        const size = physicalSize(name.split(':', 1)[0] ?? name) ?? disk.stat(path.join(folder, name))?.size;
        if (size === undefined) continue;
        bytes += size;
        messages++;
      }
    }
  }
  return { bytes, messages };
}

/** Usage as far as the file tells it, else counted. With a limit the file is made or mended. */
export async function readUsage(parts: StoreParts, root: string, limitBytes: number | undefined): Promise<Usage> {
  const { disk } = parts;
  const known = parse(disk.readText(sizeFile(root)) ?? '');
  const limit = limitBytes === undefined ? known?.limit : `${limitBytes}S`;
  const passed = limitBytes !== undefined && known !== undefined && known.bytes > limitBytes;
  if (known && !known.mustRecount && known.limit === limit && !passed) return known;
  const usage = await countUsage(disk, root);
  if (limit !== undefined) await replaceFile(parts, sizeFile(root), `${limit}\n${usage.bytes} ${usage.messages}\n`);
  return usage;
}

/** Adds a line, where the file exists. It only estimates: a failure here must not undo a delivery. */
export function noteUsage(disk: Disk, root: string, bytes: number, messages: number): void {
  const file = sizeFile(root);
  if (!disk.stat(file)) return;
  try {
    const fd = disk.openAppend(file);
    try {
      disk.write(fd, [Buffer.from(`${bytes} ${messages}\n`)]);
    } finally {
      disk.close(fd);
    }
  } catch {
    // Without the file whoever asks next counts anew.
    removeQuietly(disk, file);
  }
}
