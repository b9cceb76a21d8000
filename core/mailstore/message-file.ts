// Reads a stored message as a `Message`: CRLF line ends, whatever the file has. A small one is read whole. For a large one
// the reader gets a file that keeps its name: a link in `tmp/` (the message's own name changes with its flags), or a copy
// with CRLF where other programs wrote LF. These are kept for the last few messages read, and removed with the mailbox.
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { type Message, readMessage } from '../mail/message.ts';
import { bufferRope, fileRope } from '../mail/rope.ts';
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { sizeWithCrlf } from './measure-file.ts';

const smallBytes = 256 * 1024;
const keptFiles = 8;
const cr = 13;
const lf = 10;

/** Every bare LF becomes CRLF. `before` is the byte before the first. */
export function withCrlf(bytes: Buffer, before = 0): Buffer {
  const size = sizeWithCrlf(bytes) - (bytes[0] === lf && before === cr ? 1 : 0);
  if (size === bytes.length) return bytes;
  const result = Buffer.allocUnsafe(size);
  let from = 0;
  let to = 0;
  for (let at = bytes.indexOf(lf); at >= 0; at = bytes.indexOf(lf, at + 1)) {
    if ((at === 0 ? before : bytes[at - 1]) === cr) continue;
    to += bytes.copy(result, to, from, at);
    result[to++] = cr;
    from = at;
  }
  bytes.copy(result, to, from);
  return result;
}

export interface MessageFiles {
  /** Undefined where the file is not there. */
  open(uid: number, file: string, wireBytes: number): Promise<Message | undefined>;
  /** Removes what was kept for reading. */
  clear(): void;
}

async function copyWithCrlf(disk: Disk, from: string, to: string): Promise<number> {
  const fd = disk.create(to, 0o600);
  let size = 0;
  let before = 0;
  try {
    for await (const chunk of createReadStream(from, { highWaterMark: smallBytes })) {
      const bytes = chunk as Buffer;
      const converted = withCrlf(bytes, before);
      before = bytes.at(-1) ?? before;
      size += converted.length;
      await disk.writeLong(fd, converted);
    }
  } finally {
    disk.close(fd);
  }
  return size;
}

export function createMessageFiles(disk: Disk, tmp: () => string, newName: () => string): MessageFiles {
  const kept = new Map<number, { readonly file: string; readonly message: Message }>();

  function forget(uid: number): void {
    const entry = kept.get(uid);
    kept.delete(uid);
    if (entry) removeQuietly(disk, entry.file);
  }

  async function openLarge(uid: number, file: string, bytes: number, wireBytes: number): Promise<Message> {
    const stable = path.join(tmp(), `${newName()}.reading`);
    let message: Message;
    try {
      let end = bytes;
      if (bytes === wireBytes) disk.link(file, stable);
      else end = await copyWithCrlf(disk, file, stable);
      message = await readMessage(fileRope(stable, 0, end));
    } catch (error) {
      removeQuietly(disk, stable);
      throw error;
    }
    const other = kept.get(uid);
    if (other) {
      // Opened by somebody else meanwhile, who may be about to read it.
      removeQuietly(disk, stable);
      return other.message;
    }
    kept.set(uid, { file: stable, message });
    for (const oldest of kept.keys()) {
      if (kept.size <= keptFiles) break;
      forget(oldest);
    }
    return message;
  }

  const files: MessageFiles = {
    async open(uid, file, wireBytes) {
      const known = kept.get(uid);
      if (known) return known.message;
      try {
        const bytes = disk.stat(file)?.size;
        if (bytes === undefined) return undefined;
        if (bytes > smallBytes) return await openLarge(uid, file, bytes, wireBytes);
        const read = await disk.read(file);
        const buffer = read.length === wireBytes ? read : withCrlf(read);
        return await readMessage(bufferRope(buffer));
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return undefined;
        throw error;
      }
    },
    clear() {
      for (const uid of [...kept.keys()]) forget(uid);
    },
  };
  return files;
}
