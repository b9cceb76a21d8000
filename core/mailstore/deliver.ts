// Delivery: one final form into the Maildirs of its recipients. Order: bytes into a new file in `tmp/`, synced; then the
// name in `new/`; then the directory synced; then success. For a single recipient the first name may be one of `staging.ts`,
// which makes the second sync unnecessary. Every further recipient gets a hard link, or a copy where the
// file system is another one. What fails for one recipient leaves nothing of his and does not touch the others. UIDs are
// given later, by whoever looks first. This is the cost of a message: no look-up, no lock and no index here.
import path from 'node:path';
import type { Rope } from '../mail/rope.ts';
import { type FileStat, hasCode } from './disk.ts';
import { removeQuietly } from './durable-disk.ts';
import { writeTail } from './file-name.ts';
import { addKeywords, maskOf } from './keyword-file.ts';
import type { DeliveryResult, DeliveryTarget } from './mailbox.ts';
import { MailboxError } from './mailbox.ts';
import { noteUsage } from './quota-file.ts';
import type { StoreParts } from './store-parts.ts';
import { writeForm } from './write-form.ts';

/** Where a target's message goes, and what to do about it. */
export interface DeliveryPlace {
  /** The user's Maildir. */
  readonly root: string;
  /** The folder's directory: `root` itself for INBOX. */
  readonly folder: string;
  /** Of its `tmp/`. */
  readonly tmp?: FileStat;
  readonly target: DeliveryTarget;
}

/** What a failure means to the sender: everything but a full mailbox may pass, so it is tried again. */
export function asResult(error: unknown): DeliveryResult {
  const why = error instanceof Error ? error.message : String(error);
  if (error instanceof MailboxError) {
    if (error.code === 'overquota') return { kind: 'overquota', why };
    if (error.code === 'nonexistent' || error.code === 'cannot') return { kind: 'nomailbox', why };
  }
  return { kind: 'tempfail', full: hasCode(error, 'ENOSPC', 'EDQUOT'), why };
}

/** The final name. Flags cannot be told in `new/`, so a flagged message goes to `cur/` at once. */
async function finalName(parts: StoreParts, { folder, target }: DeliveryPlace, base: string): Promise<string> {
  const keywords = target.keywords ?? [];
  if (!target.flags && keywords.length === 0) return path.join(folder, 'new', base);
  const names = keywords.length === 0 ? [] : await addKeywords(parts, folder, keywords);
  const tail = writeTail('', { flags: target.flags ?? 0, keywords: maskOf(names, keywords) });
  return path.join(folder, 'cur', base + tail);
}

async function settle(parts: StoreParts, place: DeliveryPlace, final: string, size: number): Promise<DeliveryResult> {
  try {
    await parts.durable.syncDirectory(path.dirname(final));
    noteUsage(parts.disk, place.root, size, 1);
    return { kind: 'stored' };
  } catch (error) {
    removeQuietly(parts.disk, final);
    return asResult(error);
  }
}

/** By way of staging: durable from the first name on. Undefined where that does not work for this place. */
async function deliverStaged(parts: StoreParts, place: DeliveryPlace, form: Rope): Promise<DeliveryResult | undefined> {
  const { disk, staging } = parts;
  const { flags, keywords = [] } = place.target;
  const base = `${parts.newName()},S=${form.size},W=${form.size}`;
  // A flagged message is named anew on its way, which a restored one could not be.
  const staged = flags || keywords.length > 0 ? undefined : staging?.fileFor(place.folder, place.tmp, base);
  if (staging === undefined || staged === undefined) return undefined;
  try {
    await writeForm(disk, staged, form, form.size, undefined, staging.batches);
    disk.rename(staged, `${place.folder}/new/${base}`);
  } catch (error) {
    removeQuietly(disk, staged);
    if (!hasCode(error, 'EXDEV')) return asResult(error);
    staging.giveUp();
    return undefined;
  }
  noteUsage(disk, place.root, form.size, 1);
  return { kind: 'stored' };
}

async function deliverOne(parts: StoreParts, place: DeliveryPlace, form: Rope): Promise<DeliveryResult> {
  const { disk } = parts;
  const staged = await deliverStaged(parts, place, form);
  if (staged) return staged;
  const base = `${parts.newName()},S=${form.size},W=${form.size}`;
  const temporary = path.join(place.folder, 'tmp', base);
  try {
    await writeForm(disk, temporary, form, form.size);
    const final = await finalName(parts, place, base);
    disk.rename(temporary, final);
    return await settle(parts, place, final, form.size);
  } catch (error) {
    removeQuietly(disk, temporary);
    return asResult(error);
  }
}

/** Links the written form into a further Maildir. */
async function linkOne(parts: StoreParts, place: DeliveryPlace, form: Rope, written: string): Promise<DeliveryResult> {
  const base = `${parts.newName()},S=${form.size},W=${form.size}`;
  try {
    const final = await finalName(parts, place, base);
    parts.disk.link(written, final);
    return await settle(parts, place, final, form.size);
  } catch (error) {
    // Another file system, too many links, or one that does not link: a copy of its own.
    if (hasCode(error, 'EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP')) return deliverOne(parts, place, form);
    return asResult(error);
  }
}

/** Writes the form in the first Maildir that takes it; undefined where this one does not, with its result. */
async function deliverSeveral(
  parts: StoreParts,
  places: readonly DeliveryPlace[],
  form: Rope,
): Promise<readonly DeliveryResult[]> {
  const { disk } = parts;
  const results: DeliveryResult[] = [];
  for (const [first, place] of places.entries()) {
    const written = path.join(place.folder, 'tmp', `${parts.newName()},S=${form.size},W=${form.size}`);
    try {
      await writeForm(disk, written, form, form.size);
    } catch (error) {
      results.push(asResult(error));
      continue;
    }
    try {
      const rest = await Promise.all(places.slice(first).map(other => linkOne(parts, other, form, written)));
      return [...results, ...rest];
    } finally {
      removeQuietly(disk, written);
    }
  }
  return results;
}

/** One result per place, in order. Never rejects. */
export async function deliverForm(
  parts: StoreParts,
  places: readonly DeliveryPlace[],
  form: Rope,
): Promise<readonly DeliveryResult[]> {
  const [only] = places;
  if (only && places.length === 1) return [await deliverOne(parts, only, form)];
  return deliverSeveral(parts, places, form);
}
