// `dovecot-keywords`: which keyword each letter a–z in this folder's file names stands for: lines `<number> <keyword>`,
// 0 for `a`. A letter, once given, keeps its meaning. Changed under its dotlock, by rename.
import path from 'node:path';
import type { Disk } from './disk.ts';
import { withDotlock } from './dotlock.ts';
import { MailboxError } from './mailbox.ts';
import { replaceFile, type StoreParts } from './store-parts.ts';

export const maxKeywords = 26;

/** Position = letter. Holes are undefined. */
export type KeywordNames = readonly (string | undefined)[];

export function parseKeywords(text: string): KeywordNames {
  const names: (string | undefined)[] = [];
  for (const line of text.split('\n')) {
    const match = /^(\d{1,3}) (\S+)$/.exec(line);
    const letter = Number(match?.[1]);
    if (match?.[2] && letter < maxKeywords) names[letter] = match[2];
  }
  return names;
}

const sameKeyword = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();

export const letterOf = (names: KeywordNames, keyword: string): number =>
  names.findIndex(name => name !== undefined && sameKeyword(name, keyword));

export function maskOf(names: KeywordNames, keywords: readonly string[]): number {
  let mask = 0;
  for (const keyword of keywords) {
    const letter = letterOf(names, keyword);
    if (letter >= 0) mask |= 1 << letter;
  }
  return mask;
}

export const keywordFile = (folder: string): string => path.join(folder, 'dovecot-keywords');

export const readKeywords = (disk: Disk, folder: string): KeywordNames =>
  parseKeywords(disk.readText(keywordFile(folder)) ?? '');

/** Gives letters to the keywords that have none. Throws `limit` when there are no letters left: then none was added. */
export async function addKeywords(
  parts: StoreParts,
  folder: string,
  keywords: readonly string[],
): Promise<KeywordNames> {
  const file = keywordFile(folder);
  // Letters keep their meaning and the file is replaced whole: where all are known there is nothing to lock for.
  const known = readKeywords(parts.disk, folder);
  if (keywords.every(keyword => letterOf(known, keyword) >= 0)) return known;
  return withDotlock(parts, file, async () => {
    const names = [...readKeywords(parts.disk, folder)];
    const before = names.length;
    for (const keyword of keywords) if (letterOf(names, keyword) < 0) names.push(keyword);
    if (names.length > maxKeywords) throw new MailboxError('limit', `Mailbox has ${maxKeywords} keywords already`);
    if (names.length === before) return names;
    const lines = names.map((name, letter) => (name === undefined ? '' : `${letter} ${name}\n`));
    await replaceFile(parts, file, lines.join(''));
    return names;
  });
}
