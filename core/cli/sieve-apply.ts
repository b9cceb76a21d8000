// postern sieve apply USER --folder F [--dry-run]: the user's active rules over mail that is there already. Only what concerns
// the mailbox is done: filing, copies, flags. Nothing is sent, refused or dropped; such actions are named and left out.

import { hostname } from 'node:os';
import { ruleRegistry } from '../compose/sieve-scripts.ts';
import { StoredMessage, type StoredPlace } from '../compose/sieve-stored-message.ts';
import { dataFolder } from '../compose/stores.ts';
import { userPath } from '../compose/user-path.ts';
import { createMaildirStore } from '../mailstore/maildir-store.ts';
import type { Program, SieveHost } from '../sieve/contract.ts';
import { compile, execute, run } from '../sieve/index.ts';
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

/** Actions that concern the mailbox; the others answer or pass on what has been answered long ago. */
const filing = new Set(['keep', 'fileinto', 'discard']);

async function applyTo(
  uid: number,
  program: Program,
  context: CliContext,
  place: StoredPlace,
  dryRun: boolean,
): Promise<Applied | undefined> {
  const stored = await StoredMessage.open(place, uid, { replaceEdited: true, expunge: true, dryRun });
  if (!stored) return undefined;
  const dry = dryHost(context.clock);
  const host: SieveHost = {
    ...dry,
    message: stored.message,
    envelope: { from: stored.sender ?? '', to: place.user },
    flags: stored.flags,
    mailboxes: stored.port,
    settings: { ...dry.settings, defaultMailbox: place.mailbox.name, userAddress: place.user, occasion: 'filter' },
  };
  const result = await run(program, host);
  const base = { uid, subject: stored.message.headers.get('subject')?.value ?? '', done: stored.done };
  const leftOut = result.actions.map(({ action }) => action).filter(action => !filing.has(action));
  if (result.status !== 'ok') return { ...base, leftOut: [], error: result.diagnostics.at(-1)?.message ?? '' };
  // Nothing is dropped: what is not filed elsewhere stays.
  if (!result.actions.some(({ action }) => action === 'fileinto')) stored.stay();
  const discards = result.actions.filter(({ action }) => action === 'discard');
  const actions = result.actions.filter(({ action }) => filing.has(action) && action !== 'discard');
  const executed = await execute({ ...result, actions }, host);
  const left = [...discards.map(({ action }) => action), ...leftOut];
  if (executed.status !== 'ok')
    return { ...base, leftOut: left, error: executed.diagnostics.at(-1)?.message ?? executed.status };
  await stored.settle();
  return { ...base, leftOut: left };
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
      maildirOf: account => userPath(config.options.stores.mail, dataFolder(config), account),
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
      const dryRun = options.dryRun === true;
      const place: StoredPlace = { user: owner, mail: user, mailbox, metadata: opened.metadata };
      for (const [index, { uid }] of records.entries()) {
        bar.step(index);
        const one = await applyTo(uid, program, context, place, dryRun);
        if (one) applied.push(one);
      }
      bar.end();
      await mailbox.close();
      user.release();
      const changed = applied.filter(
        each => each.done.length > 0 || each.leftOut.length > 0 || each.error !== undefined,
      );
      print(context, { folder: options.folder, dryRun, messages: applied.length, changed }, () =>
        [
          ...changed.map(lineOf),
          `${applied.length} messages, ${changed.filter(each => each.done.length > 0).length} ${dryRun ? 'would change' : 'changed'}`,
        ].join('\n'),
      );
      return applied.some(each => each.error !== undefined) ? exitCodes.negative : exitCodes.ok;
    } finally {
      await store.close();
    }
  });
