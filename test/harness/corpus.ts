// Real messages for tests: the public SpamAssassin corpus, with CRLF line ends as they travel.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './root.ts';

export interface CorpusMessage {
  /** Folder and file. */
  readonly name: string;
  readonly bytes: Buffer;
}

const folder = path.join(root, 'node_modules', '@stdlib', 'datasets-spam-assassin', 'data');
const groups = ['spam-2', 'hard-ham-1', 'easy-ham-2', 'spam-1', 'easy-ham-1'] as const;

/** `count` messages taken in turn from all groups, always the same ones. Without the mbox line some files begin with. */
export function corpusMessages(count: number): readonly CorpusMessage[] {
  const files = groups.map(group =>
    readdirSync(path.join(folder, group))
      .filter(file => file.endsWith('.txt') && !file.startsWith('cmds'))
      .sort()
      .map(file => `${group}/${file}`),
  );
  const chosen: string[] = [];
  for (let row = 0; chosen.length < count; row += 1) {
    const line = files.flatMap(list => list[row] ?? []);
    if (line.length === 0) throw new Error(`The corpus has only ${chosen.length} messages`);
    chosen.push(...line.slice(0, count - chosen.length));
  }
  return chosen.map(name => ({ name, bytes: withCrlf(readFileSync(path.join(folder, name), 'latin1')) }));
}

const withCrlf = (text: string): Buffer =>
  Buffer.from(text.replace(/^From [^\n]*\n/, '').replace(/\r?\n/g, '\r\n'), 'latin1');
