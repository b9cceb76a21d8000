// Tests run compiled from `build/test/…` but read transcripts and case folders from the source tree.
import { existsSync } from 'node:fs';
import path from 'node:path';

function findRoot(from: string): string {
  for (let folder = from; ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, 'package.json'))) return folder;
    if (folder === path.dirname(folder)) throw new Error(`No package.json above ${from}`);
  }
}

/** Top folder of the repository. */
export const root: string = findRoot(import.meta.dirname);

/** A file or folder of the source tree, e.g. `sourcePath('test/transcripts')`. */
export const sourcePath = (relative: string): string => path.join(root, relative);
