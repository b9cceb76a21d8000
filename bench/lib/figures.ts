import { closeSync, fsyncSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

/** Seconds of a clock that never goes backwards. */
export const seconds = (): number => Number(process.hrtime.bigint()) / 1e9;

/** Median ms of an fsync of a fresh 10 kB file right now: the disk is shared, so every run records it. */
export function fsyncProbeMs(folder = tmpdir(), files = 40): number {
  const scratch = mkdtempSync(path.join(folder, 'fsync-'));
  const bytes = Buffer.alloc(10_000, 97);
  const times: number[] = [];
  for (let index = 0; index < files; index++) {
    const file = openSync(path.join(scratch, String(index)), 'w');
    writeSync(file, bytes);
    const before = seconds();
    fsyncSync(file);
    times.push((seconds() - before) * 1000);
    closeSync(file);
  }
  rmSync(scratch, { recursive: true });
  return median(times);
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map(cells => `| ${cells.join(' | ')} |`)
    .join('\n');
}
