// Dovecot's dotlock: `<file>.lock` exists while somebody may change `<file>`; its content is `pid:host`. A lock is stale
// when its process on this host is gone, or when nobody touched it for two minutes. Held for milliseconds, never across
// a wait for a client. Invariant: at most one holder among all programs that follow the protocol.
//
// Taking a lock makes a link to a token file that holds our `pid:host`: creating and deleting a file each time would
// slow down every later create in that part of an ext4 file system (see `write-form.ts`).
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';
import { MailboxError } from './mailbox.ts';
import type { LockOwner, StoreParts } from './store-parts.ts';

const staleMs = 120_000;
const waitMs = 60_000;

function processGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return hasCode(error, 'ESRCH');
  }
}

function isStale(disk: Disk, lock: string, owner: LockOwner, nowMs: number): boolean {
  const text = disk.readText(lock);
  const stat = disk.stat(lock);
  if (text === undefined || !stat) return false;
  const [pid, host] = text.trim().split(':');
  if (host === owner.host && /^\d{1,10}$/.test(pid ?? '')) {
    // Our own number in a lock older than this process: left by a predecessor (in a container every gateway may be pid 1).
    if (Number(pid) === owner.pid) return stat.mtimeMs < nowMs - process.uptime() * 1000 - 1000;
    if (processGone(Number(pid))) return true;
  }
  return nowMs - stat.mtimeMs > staleMs;
}

/** Takes a stale lock away by rename: of several that try, one succeeds; a fresh lock caught by mistake is put back. */
function breakStale(disk: Disk, lock: string, newName: () => string): void {
  const ino = disk.stat(lock)?.ino;
  const aside = `${lock}.stale.${newName()}`;
  try {
    disk.rename(lock, aside);
    if (disk.stat(aside)?.ino !== ino) disk.link(aside, lock);
    disk.remove(aside);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'EEXIST')) throw error;
  }
}

function writeOwner(disk: Disk, file: string, owner: LockOwner): void {
  const fd = disk.create(file, 0o600);
  try {
    disk.write(fd, [Buffer.from(`${owner.pid}:${owner.host}`)]);
  } catch (error) {
    disk.remove(file);
    throw error;
  } finally {
    disk.close(fd);
  }
}

/** False where the file system has no links, or no token can be. */
function linkToken(disk: Disk, token: string, lock: string, owner: LockOwner): boolean {
  try {
    if (disk.stat(token)) disk.touch(token);
    else writeOwner(disk, token, owner);
    disk.link(token, lock);
    return true;
  } catch (error) {
    if (hasCode(error, 'EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP')) return false;
    throw error;
  }
}

function tryLock(disk: Disk, lock: string, owner: LockOwner): boolean {
  try {
    if (owner.token === undefined || !linkToken(disk, owner.token, lock, owner)) writeOwner(disk, lock, owner);
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  }
}

/**
 * Runs `work` while holding the lock of `file`. Rejects with `inuse` when it cannot be had within a minute.
 * Not re-entrant, and not fair: callers inside this process queue up before they come here.
 */
export async function withDotlock<T>(parts: StoreParts, file: string, work: () => T | Promise<T>): Promise<T> {
  const { disk, owner, newName } = parts;
  const lock = `${file}.lock`;
  const start = Date.now();
  for (let pauseMs = 2; !tryLock(disk, lock, owner); pauseMs = Math.min(100, pauseMs * 1.5)) {
    const now = Date.now();
    if (isStale(disk, lock, owner, now)) breakStale(disk, lock, newName);
    else if (now - start > waitMs) throw new MailboxError('inuse', `Lock "${lock}" is held by another program`);
    else await new Promise(resolve => setTimeout(resolve, pauseMs * (0.5 + Math.random())));
  }
  try {
    return await work();
  } finally {
    unlock(disk, lock);
  }
}

/** Somebody who thought us dead may have taken the lock away already. */
function unlock(disk: Disk, lock: string): void {
  try {
    disk.remove(lock);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}
