// postern sieve apply USER --folder F [--dry-run]: the user's active rules over mail that is there already. Only what concerns
// the mailbox is done: filing, copies, flags. Nothing is sent, refused or dropped; such actions are named and left out.

import { hostname } from 'node:os';
import { storedFlags } from '../compose/sieve-host.ts';
import { ruleRegistry } from '../compose/sieve-scripts.ts';
import { dataFolder } from '../compose/stores.ts';
import { maildirPath } from '../gateway.ts';
import type { Message } from '../mail/message.ts';
import type { Mailbox, MessageRecord, Uid, UserMail } from '../mailstore/mailbox.ts';
import { createMaildirStore } from '../mailstore/maildir-store.ts';
import type { Program } from '../sieve/contract.ts';
import { compile, type Entry, run } from '../sieve/index.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { dryHost, type OpenedScripts, withScripts } from './sieve-command.ts';

export interface SieveApplyOptions {
  readonly folder: string;
  readonly dryRun?: boolean;
}

interface Applied {
  readonly uid: number;
  readonly subject: string;
  /** What was, or would be, done; empty where the message stays as it is. */
  readonly done: readonly string[];
  readonly leftOut: readonly string[];
  readonly error?: string;
}

interface Place {
  readonly user: UserMail;
  readonly mailbox: Mailbox;
  readonly dryRun: boolean;
}

async function targetName(entry: Entry, user: UserMail): Promise<string> {
  const { mailbox, specialuse } = entry.arguments;
  const folders = await user.list();
  const byUse = folders.find(folder => folder.specialUse.some(use => use === specialuse))?.name;
  const name = byUse ?? (typeof mailbox === 'string' ? mailbox : 'INBOX');
  if (name.toUpperCase() === 'INBOX') return 'INBOX';
  if (folders.some(folder => folder.name === name && folder.selectable)) return name;
  if (entry.arguments['create'] !== true) throw new UsageError(`Mailbox '${name}' does not exist`);
  return name;
}

async function file(entry: Entry, name: string, record: MessageRecord, original: Message, place: Place): Promise<void> {
  const { user, mailbox, dryRun } = place;
  if (dryRun) return;
  if (name !== 'INBOX' && !(await user.list()).some(folder => folder.name === name)) {
    await user.create(name);
    await user.subscribe(name, true);
  }
  const target = await user.open(name);
  try {
    const { flags, keywords } = storedFlags(entry.flags);
    if (entry.message !== original) {
      const options = { flags: record.flags | flags, keywords, internalDate: record.internalDate };
      await target.append(entry.message.rope, entry.message.size, options);
      return;
    }
    const copied = await mailbox.copy([record.uid], target);
    if (flags !== 0 || keywords.length > 0) await target.store(copied.to, { mode: 'add', flags, keywords });
  } finally {
    await target.close();
  }
}

async function remove(uid: Uid, mailbox: Mailbox): Promise<void> {
  await mailbox.store([uid], { mode: 'add', flags: 8, keywords: [] });
  await mailbox.expunge([uid]);
}

/** The mailbox keeps the message wherever anything fails: it is removed last, when its copies are there. */
async function applyTo(
  record: MessageRecord,
  message: Message,
  program: Program,
  owner: string,
  context: CliContext,
  place: Place,
): Promise<Applied> {
  const from = message.headers.get('return-path')?.value.replace(/^\s*<|>\s*$/g, '') ?? '';
  const result = await run(program, { ...dryHost(context.clock), message, envelope: { from, to: owner } });
  const subject = message.headers.get('subject')?.value ?? '';
  const base = { uid: record.uid, subject };
  if (result.status !== 'ok')
    return { ...base, done: [], leftOut: [], error: result.diagnostics.at(-1)?.message ?? '' };
  const done: string[] = [];
  const leftOut: string[] = [];
  let stays = false;
  let copies = 0;
  try {
    for (const entry of result.actions) {
      // `keep` means where it is: the folder is the user's choice already.
      const name = entry.action === 'fileinto' ? await targetName(entry, place.user) : place.mailbox.name;
      if (entry.action !== 'fileinto' && entry.action !== 'keep') {
        if (entry.action === 'discard') stays = true;
        leftOut.push(entry.action);
      } else if (name === place.mailbox.name) {
        stays = true;
        const { flags, keywords } = storedFlags(entry.flags);
        if (flags === 0 && keywords.length === 0) continue;
        if (!place.dryRun) await place.mailbox.store([record.uid], { mode: 'add', flags, keywords });
        done.push(`flags ${entry.flags.join(' ')}`);
      } else {
        await file(entry, name, record, message, place);
        copies++;
        done.push(`fileinto ${name}`);
      }
    }
    if (!stays && copies > 0 && !place.dryRun) await remove(record.uid, place.mailbox);
    return { ...base, done, leftOut };
  } catch (error) {
    return { ...base, done, leftOut, error: error instanceof Error ? error.message : String(error) };
  }
}

/** A line on the terminal at most every second, on standard error, so that output stays clean. */
function progress(context: CliContext, total: number): { step(done: number): void; end(): void } {
  let shownAt = context.clock.monotonic();
  let shown = false;
  return {
    step(done) {
      if (context.clock.monotonic() - shownAt < 1000) return;
      shownAt = context.clock.monotonic();
      shown = true;
      context.stderr.write(`\r${done} of ${total} messages (${Math.floor((done / total) * 100)} %)`);
    },
    end() {
      if (shown) context.stderr.write('\n');
    },
  };
}

const lineOf = ({ uid, subject, done, leftOut, error }: Applied): string =>
  [
    `${uid}  ${subject.slice(0, 60)}`,
    ...done.map(text => `    ${text}`),
    ...leftOut.map(action => `    not done here: ${action}`),
    ...(error === undefined ? [] : [`    error: ${error}`]),
  ].join('\n');

async function programOf({ scripts, user }: OpenedScripts): Promise<Program> {
  const active = await scripts.active(user);
  if (!active) throw new UsageError(`No script of ${user} is active`, exitCodes.negative);
  const compiled = compile(active.content, { registry: ruleRegistry(), name: active.name });
  if (compiled.ok) return compiled.program;
  throw new UsageError(`Script "${active.name}" of ${user} does not compile`, exitCodes.negative);
}

export const sieveApply = (context: CliContext, name: string, options: SieveApplyOptions): Promise<ExitCode> =>
  withScripts(context, name, async opened => {
    const { config, user: owner } = opened;
    const program = await programOf(opened);
    const store = createMaildirStore({
      maildirOf: account => maildirPath(config.options.stores.mail, dataFolder(config), account),
      host: config.options.hostname ?? hostname(),
      clock: context.clock,
    });
    try {
      const user = await store.user(owner);
      const mailbox = await user.open(options.folder, { readOnly: options.dryRun === true });
      const applied: Applied[] = [];
      // What is filed from here into here again is not looked at twice.
      const records = [...mailbox.records];
      const bar = progress(context, records.length);
      const place: Place = { user, mailbox, dryRun: options.dryRun === true };
      for (const [index, record] of records.entries()) {
        bar.step(index);
        const message = await mailbox.message(record.uid);
        if (message) applied.push(await applyTo(record, message, program, owner, context, place));
      }
      bar.end();
      await mailbox.close();
      user.release();
      const changed = applied.filter(
        each => each.done.length > 0 || each.leftOut.length > 0 || each.error !== undefined,
      );
      print(context, { folder: options.folder, dryRun: place.dryRun, messages: applied.length, changed }, () =>
        [
          ...changed.map(lineOf),
          `${applied.length} messages, ${changed.filter(each => each.done.length > 0).length} ${place.dryRun ? 'would change' : 'changed'}`,
        ].join('\n'),
      );
      return applied.some(each => each.error !== undefined) ? exitCodes.negative : exitCodes.ok;
    } finally {
      await store.close();
    }
  });
