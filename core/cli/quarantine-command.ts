// postern quarantine list | show | release | delete | learn: what plugins put out of the way, with or without a running
// gateway; only learning needs one, for its engines are behind the plugins.
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { LearnResult, QuarantineAdmin, ReleaseResult } from '../compose/quarantine.ts';
import { dataFolder, openQuarantineAlone } from '../compose/stores.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import { askGateway, NotRunningError } from '../control/client.ts';
import { type ControlRequest, controlSocketPath } from '../control/protocol.ts';
import { quarantineReasons } from '../mail/deliverable.ts';
import type { StoredMail } from '../quarantine/kept-mail.ts';
import type { KeptQuery } from '../quarantine/query.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { printable, renderTrace } from './render-trace.ts';
import { formatTable } from './table.ts';
import { showTime, timeOption } from './time-option.ts';

export interface QuarantineSelection extends Omit<KeptQuery, 'from' | 'to' | 'message' | 'limit' | 'order' | 'beyond'> {
  readonly since?: string;
  readonly until?: string;
  readonly all?: boolean;
}

async function withQuarantine<T>(
  context: CliContext,
  work: (quarantine: QuarantineAdmin, config: LoadedConfig) => Promise<T>,
): Promise<T> {
  const config = loadConfig(context.configFile, context.workingFolder);
  const opened = await openQuarantineAlone(config, context.clock, context.log);
  try {
    return await work(opened.quarantine, config);
  } finally {
    await opened.close();
  }
}

function queryOf(context: CliContext, selection: QuarantineSelection): KeptQuery {
  const { reason, plugin, sender, recipient, client, subject, messageId, since, until, released } = selection;
  if (reason !== undefined && !(quarantineReasons as readonly string[]).includes(reason))
    throw new UsageError(`There is no reason '${reason}': ${quarantineReasons.join(', ')}`);
  const now = context.clock.now();
  return {
    ...(reason === undefined ? {} : { reason }),
    ...(plugin === undefined ? {} : { plugin }),
    ...(sender === undefined ? {} : { sender: sender === '<>' ? '' : sender }),
    ...(recipient === undefined ? {} : { recipient }),
    ...(client === undefined ? {} : { client }),
    ...(subject === undefined ? {} : { subject }),
    ...(messageId === undefined ? {} : { messageId }),
    ...(since === undefined ? {} : { from: timeOption('--since', since, now) }),
    ...(until === undefined ? {} : { to: timeOption('--until', until, now) }),
    ...(released === undefined ? {} : { released }),
  };
}

/** The messages that were named, or those that the options select, page by page. */
async function* selected(
  context: CliContext,
  quarantine: QuarantineAdmin,
  ids: readonly string[],
  selection: QuarantineSelection,
): AsyncGenerator<StoredMail | string> {
  const query = queryOf(context, selection);
  const filtered = Object.keys(query).length > 0;
  if (ids.length > 0 && (filtered || selection.all)) throw new UsageError('Name ids or options that select, not both');
  if (ids.length === 0 && !filtered && !selection.all)
    throw new UsageError('Name the id of a quarantined message, options such as --reason or --sender, or --all');
  for (const id of ids) yield (await quarantine.show(id)) ?? id;
  if (ids.length > 0) return;
  for (let beyond: KeptQuery['beyond']; ; ) {
    const page = await quarantine.list({ ...query, limit: 200, order: 'oldest', ...(beyond ? { beyond } : {}) });
    yield* page;
    const last = page.at(-1);
    if (!last) return;
    beyond = { receivedAt: last.receivedAt, id: last.id };
  }
}

const sizeOf = (bytes: number): string =>
  bytes < 10_240
    ? `${bytes} B`
    : bytes < 10_485_760
      ? `${Math.round(bytes / 1024)} KiB`
      : `${Math.round(bytes / 1_048_576)} MiB`;

const senderOf = ({ facts }: StoredMail): string => facts.sender?.text ?? '<>';
function recipientsOf({ facts }: StoredMail): string {
  const [first, ...more] = facts.recipients.map(({ address }) => address.text);
  return `${first ?? ''}${more.length > 0 ? ` +${more.length}` : ''}`;
}

/** Without the trace, which `show` has. */
const listed = ({ trace: _trace, ...mail }: StoredMail) => mail;

export function quarantineList(
  context: CliContext,
  options: QuarantineSelection & { readonly limit: number },
): Promise<ExitCode> {
  return withQuarantine(context, async quarantine => {
    const found = await quarantine.list({ ...queryOf(context, options), limit: options.limit });
    print(context, found.map(listed), () => {
      if (found.length === 0) return 'Nothing is in the quarantine that fits.';
      const rows = found.map(mail => [
        mail.id,
        showTime(mail.receivedAt),
        mail.reason,
        mail.plugin,
        printable(senderOf(mail)),
        printable(recipientsOf(mail)),
        sizeOf(mail.size),
        mail.releases.length === 0 ? '' : `${mail.releases.length} of ${mail.facts.recipients.length}`,
        printable(mail.subject ?? ''),
      ]);
      const head = ['ID', 'RECEIVED', 'REASON', 'PLUGIN', 'SENDER', 'RECIPIENT', 'SIZE', 'RELEASED', 'SUBJECT'];
      return formatTable(head, rows);
    });
    return exitCodes.ok;
  });
}

function describe(mail: StoredMail, color: boolean): string {
  const isOriginal = mail.id !== mail.message;
  return [
    `${mail.id}  received ${showTime(mail.receivedAt)}  ${mail.size} bytes`,
    `  ${mail.reason}, by ${mail.plugin}: ${printable(mail.why)}`,
    ...(isOriginal ? [`  the original of ${mail.message}, which went on without what was found in it`] : []),
    `  from ${printable(senderOf(mail))}${mail.facts.client ? ` by ${printable(mail.facts.client.address)}` : ''}`,
    ...mail.facts.recipients.map(({ address }) => {
      const release = mail.releases.find(each => each.address === address.text.toLowerCase());
      const state = release ? `released ${showTime(release.at)} as ${release.queueId}` : 'not released';
      return `  to ${printable(address.text)}: ${state}`;
    }),
    ...(mail.subject === undefined ? [] : [`  subject ${printable(mail.subject)}`]),
    ...(mail.trace === undefined ? [] : ['', renderTrace(mail.trace, color)]),
  ].join('\n');
}

export function quarantineShow(
  context: CliContext,
  id: string,
  options: { readonly source?: boolean },
): Promise<ExitCode> {
  return withQuarantine(context, async quarantine => {
    const mail = await quarantine.show(id);
    if (!mail) throw new UsageError(`Nothing is in the quarantine as '${id}'`, exitCodes.negative);
    if (options.source) {
      const message = await quarantine.message(mail);
      // Standard output stays open for what comes after.
      await pipeline(message.open(), context.stdout as Writable, { end: false });
      return exitCodes.ok;
    }
    print(context, mail, () => describe(mail, context.color));
    return exitCodes.ok;
  });
}

/** Asks the running gateway; undefined where there is none. */
async function ask(config: LoadedConfig, request: ControlRequest): Promise<unknown> {
  return askGateway(controlSocketPath(dataFolder(config)), request, 600_000);
}

async function teach(config: LoadedConfig, id: string, as: 'spam' | 'ham'): Promise<LearnResult> {
  return (await ask(config, { command: 'learn', argument: JSON.stringify({ id, as }) })) as LearnResult;
}

interface Told {
  readonly text: string;
  readonly ok: boolean;
}

function learned(id: string, as: 'spam' | 'ham', result: LearnResult): Told {
  if (result.kind === 'unknown') return { text: `${id}: not in the quarantine`, ok: false };
  if (result.lessons.length === 0)
    return { text: `${id}: no plugin of the chain can learn (spamassassin and rspamd can)`, ok: false };
  const text = result.lessons.map(({ plugin, error }) =>
    error === undefined ? `${plugin} learnt it as ${as}` : `${plugin} did not learn it: ${error}`,
  );
  return { text: `${id}: ${text.join('; ')}`, ok: result.lessons.every(({ error }) => error === undefined) };
}

const listOf = (addresses: readonly string[]): string => addresses.map(printable).join(', ');

function releaseText(id: string, result: ReleaseResult): Told {
  switch (result.kind) {
    case 'released':
      return { text: `${id}: released to ${listOf(result.recipients)} as ${result.queueId}`, ok: true };
    case 'already':
      return { text: `${id}: was released to ${listOf(result.recipients)} before, nothing was sent`, ok: true };
    case 'unknown':
      return { text: `${id}: not in the quarantine`, ok: false };
    case 'strangers':
      return {
        text: `${id}: was not sent to ${listOf(result.addresses)}, so it is not released there; nothing was sent`,
        ok: false,
      };
  }
}

export function quarantineRelease(
  context: CliContext,
  ids: readonly string[],
  options: QuarantineSelection & { readonly to?: readonly string[]; readonly learn?: boolean },
): Promise<ExitCode> {
  return withQuarantine(context, async (quarantine, config) => {
    // Before anything is released: without a gateway nothing can be learnt.
    if (options.learn) await ask(config, { command: 'wake' });
    const results: unknown[] = [];
    const told: Told[] = [];
    for await (const found of selected(context, quarantine, ids, options)) {
      const id = typeof found === 'string' ? found : found.id;
      const released = await quarantine.release(id, options.to);
      told.push(releaseText(id, released));
      const lesson = options.learn && released.kind !== 'unknown' ? await teach(config, id, 'ham') : undefined;
      if (lesson) told.push(learned(id, 'ham', lesson));
      results.push({ id, ...released, ...(lesson?.kind === 'told' ? { lessons: lesson.lessons } : {}) });
    }
    // One that does not run finds the messages when it starts.
    await ask(config, { command: 'wake' }).catch((error: unknown) => {
      if (!(error instanceof NotRunningError)) throw error;
      if (!context.json && told.some(({ ok }) => ok))
        told.push({ text: 'The gateway is not running; it delivers when it starts.', ok: true });
    });
    print(context, results, () => said(told));
    return told.length > 0 && told.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.negative;
  });
}

const said = (told: readonly Told[]): string =>
  told.length === 0 ? 'Nothing is in the quarantine that fits.' : told.map(({ text }) => text).join('\n');

export function quarantineDelete(
  context: CliContext,
  ids: readonly string[],
  options: QuarantineSelection,
): Promise<ExitCode> {
  return withQuarantine(context, async quarantine => {
    let deleted = 0;
    const unknown: string[] = [];
    for await (const found of selected(context, quarantine, ids, options)) {
      if (typeof found === 'string') unknown.push(found);
      else deleted += await quarantine.delete([found.id]);
    }
    print(context, { deleted, unknown }, () =>
      [`${deleted} messages deleted`, ...unknown.map(id => `${id}: not in the quarantine`)].join('\n'),
    );
    return unknown.length === 0 && (deleted > 0 || options.all) ? exitCodes.ok : exitCodes.negative;
  });
}

export function quarantineLearn(
  context: CliContext,
  as: string,
  ids: readonly string[],
  options: QuarantineSelection,
): Promise<ExitCode> {
  if (as !== 'spam' && as !== 'ham') throw new UsageError(`Messages are learnt as 'spam' or 'ham', not '${as}'`);
  return withQuarantine(context, async (quarantine, config) => {
    const results: unknown[] = [];
    const told: Told[] = [];
    for await (const found of selected(context, quarantine, ids, options)) {
      const id = typeof found === 'string' ? found : found.id;
      const result = await teach(config, id, as);
      told.push(learned(id, as, result));
      results.push({ id, ...result });
    }
    print(context, results, () => said(told));
    return told.length > 0 && told.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.negative;
  });
}
