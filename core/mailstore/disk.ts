// The file operations that the mail store writes with, as a value, so that a test can make each of them fail.
// Short operations on names are synchronous: they touch cached directory blocks only, and a hop through the thread pool
// costs more than they do. What waits for the disk (sync, reading, long writes) is asynchronous.
import fs from 'node:fs';
import { promisify } from 'node:util';

export interface FileStat {
  readonly size: number;
  readonly mtimeMs: number;
  /** Also changed by link and rename. */
  readonly ctimeMs: number;
  readonly ino: number;
  readonly dev: number;
  readonly isDirectory: boolean;
  /** A directory whose group new files in it get (setgid). */
  readonly givesGroup: boolean;
}

export interface Disk {
  /** A new file for writing; `EEXIST` where the name is taken. Returns the descriptor. */
  create(file: string, mode: number): number;
  /** The same, but each write ends only when its bytes are on the disk. */
  createSynced(file: string, mode: number): number;
  /** Opens for appending. */
  openAppend(file: string): number;
  openRead(file: string): number;
  /** Writes all of it at the current position. */
  write(fd: number, pieces: readonly Uint8Array[]): void;
  /** The same through the thread pool, for what is too long to hold up everybody else. */
  writeLong(fd: number, bytes: Uint8Array): Promise<void>;
  /** All of it, through the thread pool: one hop that writes and, on a file of `createSynced`, syncs. */
  writeOff(fd: number, pieces: readonly Uint8Array[]): Promise<void>;
  /** Data and metadata are on the disk. */
  sync(fd: number): Promise<void>;
  close(fd: number): void;
  setTimes(fd: number, timeMs: number): void;
  /** mtime = now. */
  touch(file: string): void;
  link(from: string, to: string): void;
  rename(from: string, to: string): void;
  remove(file: string): void;
  makeDirectory(folder: string): void;
  removeTree(folder: string): Promise<void>;
  list(folder: string): Promise<string[]>;
  stat(file: string): FileStat | undefined;
  readText(file: string): string | undefined;
  /** The whole file: opened at once, read in one hop. */
  read(file: string): Promise<Buffer>;
}

const { O_CREAT, O_EXCL, O_WRONLY, O_DSYNC } = fs.constants;
const fsyncFd = promisify(fs.fsync);
const readFd = promisify(fs.read);
const writevFd: (fd: number, pieces: readonly Uint8Array[]) => Promise<{ readonly bytesWritten: number }> = promisify(
  fs.writev,
);
const writeFd: (fd: number, bytes: Uint8Array, offset: number) => Promise<{ readonly bytesWritten: number }> =
  promisify(fs.write);

export const hasCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof Error && codes.includes((error as NodeJS.ErrnoException).code ?? '');

function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

function writeAll(fd: number, pieces: readonly Uint8Array[]): void {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (total === 0) return;
  const first = pieces.length === 1 && pieces[0] ? fs.writeSync(fd, pieces[0]) : fs.writevSync(fd, pieces);
  if (first === total) return;
  // A short write: the disk is filling up or a signal came. Go on from there, so that the cause shows as an error.
  const rest = Buffer.concat(pieces);
  for (let at = first; at < total; ) at += fs.writeSync(fd, rest, at);
}

export const realDisk: Disk = {
  create: (file, mode) => fs.openSync(file, 'wx', mode),
  createSynced: (file, mode) => fs.openSync(file, O_CREAT | O_EXCL | O_WRONLY | O_DSYNC, mode),
  openAppend: file => fs.openSync(file, 'a'),
  openRead: file => fs.openSync(file, 'r'),
  write: writeAll,
  async writeLong(fd, bytes) {
    for (let at = 0; at < bytes.length; ) at += (await writeFd(fd, bytes, at)).bytesWritten;
  },
  async writeOff(fd, pieces) {
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (total === 0) return;
    const [only] = pieces;
    const { bytesWritten } = only && pieces.length === 1 ? await writeFd(fd, only, 0) : await writevFd(fd, pieces);
    if (bytesWritten < total) await realDisk.writeLong(fd, Buffer.concat(pieces).subarray(bytesWritten));
  },
  sync: fd => fsyncFd(fd),
  close: fd => fs.closeSync(fd),
  setTimes: (fd, timeMs) => fs.futimesSync(fd, timeMs / 1000, timeMs / 1000),
  touch(file) {
    const now = new Date();
    fs.utimesSync(file, now, now);
  },
  link: (from, to) => fs.linkSync(from, to),
  rename: (from, to) => fs.renameSync(from, to),
  remove: file => fs.unlinkSync(file),
  makeDirectory: folder => void fs.mkdirSync(folder, { recursive: true, mode: 0o700 }),
  removeTree: folder => fs.promises.rm(folder, { recursive: true, force: true }),
  list: folder => fs.promises.readdir(folder),
  stat(file) {
    const stat = orUndefined(() => fs.statSync(file, { throwIfNoEntry: false }));
    return (
      stat && {
        size: stat.size,
        mtimeMs: stat.mtimeMs,
        ctimeMs: stat.ctimeMs,
        ino: stat.ino,
        dev: stat.dev,
        isDirectory: stat.isDirectory(),
        givesGroup: (stat.mode & 0o2000) !== 0,
      }
    );
  },
  readText: file => orUndefined(() => fs.readFileSync(file, 'utf8')),
  async read(file) {
    const fd = fs.openSync(file, 'r');
    try {
      const bytes = Buffer.allocUnsafeSlow(fs.fstatSync(fd).size);
      let at = 0;
      while (at < bytes.length) {
        const { bytesRead } = await readFd(fd, bytes, at, bytes.length - at, at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return at === bytes.length ? bytes : bytes.subarray(0, at);
    } finally {
      fs.closeSync(fd);
    }
  },
};
