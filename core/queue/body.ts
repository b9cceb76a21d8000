// Where the bytes of a queued message lie. A small one is a blob in its row, so that one commit is its only sync. A
// large one keeps the bytes that are in memory in the row and the rest in files of the queue's own directory: ranges of
// a spool file are taken over by hard link (no copy), or copied where the file system cannot link. Files are synced, and
// their directory is, before the row that names them is committed; they are removed after the row is gone. What a
// crash leaves between the two is swept at the next start.
import { constants } from 'node:fs';
import { link, open, opendir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { type FileRange, type Piece, type Rope, ropeBytes, ropeChunks } from '../mail/rope.ts';

/** A piece as the row tells it: bytes of the blob, or of a file in the queue's directory. */
type StoredPiece =
  | readonly ['b', start: number, end: number]
  | readonly ['f', name: string, start: number, end: number];

export interface StoredBody {
  readonly blob: Buffer;
  /** JSON of `StoredPiece[]`. */
  readonly pieces: string;
}

export interface BodyStore {
  /** Durable as far as files go when it resolves; the blob is for the caller to commit. */
  put(id: string, form: Rope): Promise<StoredBody>;
  form(pieces: string, blob: Uint8Array): Rope;
  /** Removes the files of a message whose row is gone. */
  remove(pieces: string): Promise<void>;
  /** Removes files that no row names and that are older than `graceMs`; `known` is asked in batches of message ids. */
  sweep(known: (ids: readonly string[]) => Promise<ReadonlySet<string>>, graceMs: number, now: number): Promise<number>;
}

async function syncPath(target: string): Promise<void> {
  const handle = await open(target, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Copies a range of a file into a new one, synced. */
async function copyRange(range: FileRange, to: string): Promise<void> {
  const target = await open(to, 'wx', 0o600);
  try {
    for await (const chunk of ropeChunks({ size: range.end - range.start, pieces: [range] }))
      await target.writeFile(chunk);
    await target.sync();
  } finally {
    await target.close();
  }
}

const cannotLink = new Set(['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK', 'EOPNOTSUPP']);

/** `directory` exists. Bodies above `inRowLimit` bytes are kept as files. */
export function openBodyStore(directory: string, inRowLimit: number): BodyStore {
  const place = (name: string): string => path.join(directory, name);
  const filesOf = (pieces: string): readonly string[] => [
    ...new Set((JSON.parse(pieces) as readonly StoredPiece[]).flatMap(piece => (piece[0] === 'f' ? [piece[1]] : []))),
  ];

  /** Takes over one file, whole; ranges keep their offsets. Returns what to subtract from them. */
  async function takeOver(file: string, name: string, start: number, end: number): Promise<number> {
    try {
      await link(file, place(name));
      await syncPath(place(name));
      return 0;
    } catch (error) {
      if (!cannotLink.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      await copyRange({ file, start, end }, place(name));
      return start;
    }
  }

  async function putFiles(id: string, form: Rope, made: string[]): Promise<StoredBody> {
    const blobs: Buffer[] = [];
    let blobSize = 0;
    const names = new Map<string, { readonly name: string; readonly shift: number }>();
    const pieces: StoredPiece[] = [];
    for (const piece of form.pieces) {
      if (Buffer.isBuffer(piece)) {
        pieces.push(['b', blobSize, blobSize + piece.length]);
        blobs.push(piece);
        blobSize += piece.length;
        continue;
      }
      let taken = names.get(piece.file);
      if (taken === undefined) {
        const ranges = form.pieces.filter(other => !Buffer.isBuffer(other) && other.file === piece.file);
        const from = Math.min(...ranges.map(range => (Buffer.isBuffer(range) ? 0 : range.start)));
        const to = Math.max(...ranges.map(range => (Buffer.isBuffer(range) ? 0 : range.end)));
        const name = `${id}.${names.size}`;
        made.push(name);
        taken = { name, shift: await takeOver(piece.file, name, from, to) };
        names.set(piece.file, taken);
      }
      pieces.push(['f', taken.name, piece.start - taken.shift, piece.end - taken.shift]);
    }
    if (blobSize > inRowLimit) {
      // A large message that is held in memory whole: its bytes go to a file as well.
      const name = `${id}.m`;
      made.push(name);
      const target = await open(place(name), 'wx', 0o600);
      try {
        for (const blob of blobs) await target.writeFile(blob);
        await target.sync();
      } finally {
        await target.close();
      }
      await syncPath(directory);
      const moved = pieces.map(piece => (piece[0] === 'b' ? (['f', name, piece[1], piece[2]] as const) : piece));
      return { blob: Buffer.alloc(0), pieces: JSON.stringify(moved) };
    }
    await syncPath(directory);
    return { blob: Buffer.concat(blobs, blobSize), pieces: JSON.stringify(pieces) };
  }

  const removeNames = async (names: readonly string[]): Promise<void> => {
    for (const name of names) await rm(place(name), { force: true });
  };

  return {
    async put(id, form) {
      if (form.size <= inRowLimit) {
        const blob = await ropeBytes(form);
        return { blob, pieces: JSON.stringify([['b', 0, blob.length]]) };
      }
      const made: string[] = [];
      try {
        return await putFiles(id, form, made);
      } catch (error) {
        await removeNames(made);
        throw error;
      }
    },
    form(pieces, blob) {
      const whole = Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength);
      const list = (JSON.parse(pieces) as readonly StoredPiece[]).map(
        (piece): Piece =>
          piece[0] === 'b'
            ? whole.subarray(piece[1], piece[2])
            : { file: place(piece[1]), start: piece[2], end: piece[3] },
      );
      return {
        size: list.reduce((sum, piece) => sum + (Buffer.isBuffer(piece) ? piece.length : piece.end - piece.start), 0),
        pieces: list,
      };
    },
    remove: pieces => removeNames(filesOf(pieces)),
    async sweep(known, graceMs, now) {
      let removed = 0;
      const flush = async (names: readonly string[]): Promise<void> => {
        const ids = [...new Set(names.map(name => name.slice(0, name.lastIndexOf('.'))))];
        const alive = await known(ids);
        for (const name of names.filter(each => !alive.has(each.slice(0, each.lastIndexOf('.'))))) {
          if (now - (await stat(place(name))).ctimeMs < graceMs) continue;
          await rm(place(name), { force: true });
          removed += 1;
        }
      };
      let batch: string[] = [];
      for await (const entry of await opendir(directory)) {
        if (!entry.isFile()) continue;
        batch.push(entry.name);
        if (batch.length < 200) continue;
        await flush(batch);
        batch = [];
      }
      if (batch.length > 0) await flush(batch);
      return removed;
    },
  };
}
