// What lies in `new/` and `cur/` now. Other programs add, rename and remove while we look; a look during which a
// directory changed is repeated, and if it stays busy the result says so, and nobody is declared missing by it.
import path from 'node:path';
import type { Disk } from './disk.ts';
import { hasCode } from './disk.ts';
import { splitName } from './file-name.ts';
import type { StoreParts } from './store-parts.ts';

/** Where the file of a base name is. */
export interface Place {
  readonly tail: string;
  readonly inNew: boolean;
}

export interface Scan {
  readonly files: ReadonlyMap<string, Place>;
  /** Nothing that shows changed while we looked. */
  readonly calm: boolean;
  /** Whatever had changed would show: the directories had been left alone for longer than a tick of the file system's clock. */
  readonly settled: boolean;
  /** Base names of files that were moved from `new/` by us. */
  readonly moved: ReadonlySet<string>;
  /** Trusted stamps of the directories, as of the look: later nobody can tell any more what came in the same tick. */
  readonly newStamp: number;
  readonly curStamp: number;
}

const attempts = 3;

/** The stamp; 0 for one so young that a change in the same tick of the file system's clock would not show. */
export function trusted(mtimeMs: number, nowMs: number): number {
  const tickMs = mtimeMs % 1000 === 0 ? 2000 : 20;
  return nowMs - mtimeMs >= tickMs ? mtimeMs : 0;
}

/** File names in a folder; those with a leading dot are not messages. */
export async function listFiles(disk: Disk, folder: string): Promise<string[]> {
  return (await disk.list(folder)).filter(name => !name.startsWith('.'));
}

/**
 * Moves what is in `new/` to `cur/`; returns it by base name. `rename` replaces an existing file, so a name that is taken
 * in `cur/` (a copy by some program, or a link left by a crash) is not moved over it.
 */
export function moveToCur(disk: Disk, folder: string, names: readonly string[], newName: () => string) {
  const moved = new Map<string, Place>();
  for (const name of names) {
    const { base, tail } = splitName(name);
    const place = { tail: tail.startsWith(':2,') ? tail : ':2,', inNew: false };
    const from = path.join(folder, 'new', name);
    try {
      moved.set(...moveOne(disk, folder, from, base, place, newName));
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
  return moved;
}

function moveOne(
  disk: Disk,
  folder: string,
  from: string,
  base: string,
  place: Place,
  newName: () => string,
): [string, Place] {
  const to = path.join(folder, 'cur', base + place.tail);
  const taken = disk.stat(to);
  if (!taken) disk.rename(from, to);
  else if (taken.ino === disk.stat(from)?.ino) disk.remove(from);
  else {
    const other = newName() + base.replace(/^[^,]*/, '');
    disk.rename(from, path.join(folder, 'cur', other + place.tail));
    return [other, place];
  }
  return [base, place];
}

type ScanParts = Pick<StoreParts, 'disk' | 'clock' | 'newName'>;

interface Finding {
  readonly files: Map<string, Place>;
  readonly doubles: readonly string[];
}

function collect(inNew: readonly string[], inCur: readonly string[]): Finding {
  const files = new Map<string, Place>();
  const doubles: string[] = [];
  for (const name of inCur) {
    const { base, tail } = splitName(name);
    if (files.has(base)) doubles.push(name);
    else files.set(base, { tail, inNew: false });
  }
  for (const name of inNew) {
    const { base, tail } = splitName(name);
    // In both: it was moved while we looked.
    if (!files.has(base)) files.set(base, { tail, inNew: true });
  }
  return { files, doubles };
}

/** Two files with one base name in `cur/`: two messages, of which the second gets a name of its own. */
function separate(disk: Disk, folder: string, { files, doubles }: Finding, newName: () => string): void {
  for (const name of doubles) {
    const { base, tail } = splitName(name);
    const first = files.get(base);
    const cur = path.join(folder, 'cur');
    if (!first || !disk.stat(path.join(cur, base + first.tail))) continue;
    const other = newName() + base.replace(/^[^,]*/, '');
    try {
      disk.rename(path.join(cur, name), path.join(cur, other + tail));
      files.set(other, { tail, inNew: false });
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
}

/** Looks at both directories, after moving new mail where `move` asks for it. */
export async function scanFolder({ disk, clock, newName }: ScanParts, folder: string, move: boolean): Promise<Scan> {
  const newPath = path.join(folder, 'new');
  const curPath = path.join(folder, 'cur');
  const moved = new Set<string>();
  for (let attempt = 1; ; attempt++) {
    if (move)
      for (const base of moveToCur(disk, folder, await listFiles(disk, newPath), newName).keys()) moved.add(base);
    const before = [disk.stat(newPath)?.mtimeMs, disk.stat(curPath)?.mtimeMs] as const;
    const [newStamp, curStamp] = [trusted(before[0] ?? 0, clock.now()), trusted(before[1] ?? 0, clock.now())];
    const settled = newStamp !== 0 && curStamp !== 0;
    // `new/` first: what moves to `cur/` between the two looks is seen at least once.
    const finding = collect(await listFiles(disk, newPath), await listFiles(disk, curPath));
    const calm = before[0] === disk.stat(newPath)?.mtimeMs && before[1] === disk.stat(curPath)?.mtimeMs;
    if (!calm && attempt < attempts) continue;
    if (calm) separate(disk, folder, finding, newName);
    return { files: finding.files, calm, settled, moved, newStamp, curStamp };
  }
}
