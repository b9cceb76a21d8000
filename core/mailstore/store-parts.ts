// What all of a store works with, handed down as one value.
import type { DurableFiles } from '../lib/atomic-file.ts';
import type { Clock } from '../lib/clock.ts';
import type { Disk } from './disk.ts';
import type { Staging } from './staging.ts';

/** Who we are in lock files. */
export interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** A file of ours that locks are links to, on the same file system; see `dotlock.ts`. */
  readonly token?: string;
}

export interface StoreParts {
  readonly disk: Disk;
  /** Over the same disk. */
  readonly durable: DurableFiles;
  readonly clock: Clock;
  readonly owner: LockOwner;
  /** Base names for new messages, without sizes. */
  readonly newName: () => string;
  /** Where deliveries need one sync instead of two. */
  readonly staging?: Staging;
}

/** Replaces a small file; the temporary name is none that a Maildir reader takes for a folder. */
export function replaceFile(parts: StoreParts, file: string, text: string): Promise<void> {
  return parts.durable.write(file, text, { temporary: `${file}.tmp.${parts.newName()}` });
}
