// Small files of a user beside the messages: `subscriptions` as Dovecot writes it, and special uses in a file of ours.
import path from 'node:path';
import type { Disk } from './disk.ts';
import { withDotlock } from './dotlock.ts';
import { directoryOf, nameOf } from './folder-name.ts';
import { type SpecialUse, specialUses } from './mailbox.ts';
import { replaceFile, type StoreParts } from './store-parts.ts';

const header = 'V\t2\n\n';

/** Version 2: parts divided by tabs. Version 1: names as in the directory, divided by dots. */
export function parseSubscriptions(text: string): readonly string[] {
  const isNew = text.startsWith('V\t2\n');
  const names = text
    .slice(isNew ? header.length : 0)
    .split('\n')
    .filter(line => line !== '')
    .map(line => (line.toUpperCase() === 'INBOX' ? 'INBOX' : nameOf(`.${isNew ? line.replaceAll('\t', '.') : line}`)));
  return [...new Set(names.filter(name => name !== undefined))];
}

function formatSubscription(name: string): string {
  const directory = directoryOf(name);
  return directory === '' ? 'INBOX' : directory.slice(1).replaceAll('.', '\t');
}

export const subscriptionFile = (root: string): string => path.join(root, 'subscriptions');

export const readSubscriptions = (disk: Disk, root: string): readonly string[] =>
  parseSubscriptions(disk.readText(subscriptionFile(root)) ?? '');

export function setSubscription(parts: StoreParts, root: string, name: string, on: boolean): Promise<void> {
  const file = subscriptionFile(root);
  return withDotlock(parts, file, async () => {
    const names = readSubscriptions(parts.disk, root);
    if (names.includes(name) === on) return;
    const next = on ? [...names, name] : names.filter(known => known !== name);
    await replaceFile(parts, file, header + next.map(known => `${formatSubscription(known)}\n`).join(''));
  });
}

/** RFC 6154: uses by directory. `postern-special-use` holds lines `<directory>\t<use> <use>…`. */
export type SpecialUses = ReadonlyMap<string, readonly SpecialUse[]>;

const specialUseFile = (root: string): string => path.join(root, 'postern-special-use');

export function readSpecialUses(disk: Disk, root: string): SpecialUses {
  const uses = new Map<string, readonly SpecialUse[]>();
  for (const line of (disk.readText(specialUseFile(root)) ?? '').split('\n')) {
    const [directory, words] = line.split('\t');
    const listed = words?.split(' ');
    if (directory !== undefined && listed)
      uses.set(
        directory,
        specialUses.filter(use => listed.includes(use)),
      );
  }
  return uses;
}

export function changeSpecialUses(
  parts: StoreParts,
  root: string,
  change: (uses: Map<string, readonly SpecialUse[]>) => void,
): Promise<void> {
  const file = specialUseFile(root);
  return withDotlock(parts, file, async () => {
    const uses = new Map(readSpecialUses(parts.disk, root));
    change(uses);
    const lines = [...uses].map(([directory, words]) => `${directory}\t${words.join(' ')}\n`);
    await replaceFile(parts, file, lines.join(''));
  });
}
