// A map file that is read again when it has changed. A change that cannot be read, or holds an error, changes no answer:
// the state before stays and the log says why.
import { readFile, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';
import { parseAddressMap } from './address-table.ts';

export interface MapFile {
  /** Keys as of now; undefined where the file was never readable. */
  keys(): Promise<ReadonlySet<string> | undefined>;
}

/** How often to look whether it changed. */
const lookEveryMs = 1_000;

export function openMapFile(file: string, clock: Clock, log: Logger): MapFile {
  let keys: ReadonlySet<string> | undefined;
  let seen = '';
  let lookedAt = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | undefined;

  async function look(): Promise<void> {
    try {
      const { mtimeMs, size, ino } = await stat(file);
      const state = `${mtimeMs} ${size} ${ino}`;
      if (state === seen) return;
      const table = parseAddressMap(await readFile(file, 'utf8'));
      seen = state;
      const [problem] = table.problems;
      if (problem) log.warn({ file, line: problem.line, why: problem.message }, 'recipient-map-faulty');
      if (problem && keys) return;
      keys = table.keys;
    } catch (error) {
      if (seen !== 'unreadable') log.warn({ file, err: error }, 'recipient-map-unreadable');
      seen = 'unreadable';
    }
  }

  return {
    async keys() {
      const now = clock.monotonic();
      if (now - lookedAt >= lookEveryMs) {
        lookedAt = now;
        looking = look();
      }
      await looking;
      return keys;
    },
  };
}
