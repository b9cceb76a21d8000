// postern trace: one message, or a search; --follow goes on as messages come. postern why: the same record in sentences.

import { openTraces } from '../compose/stores.ts';
import { loadConfig } from '../config/load.ts';
import { decisiveStep, explainTrace } from '../mail/explain-trace.ts';
import type { TraceRecord } from '../mail/trace.ts';
import type { TraceQuery } from '../state/trace-query.ts';
import type { StoredTrace, TraceStore } from '../state/trace-store.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { printable, renderTrace } from './render-trace.ts';
import { formatTable } from './table.ts';
import { showTime, timeOption } from './time-option.ts';

export interface TraceSelection extends Omit<TraceQuery, 'from' | 'to' | 'after' | 'before'> {
  readonly since?: string;
  readonly until?: string;
  readonly follow?: boolean;
  readonly full?: boolean;
}

async function withTraces<T>(context: CliContext, work: (traces: TraceStore) => Promise<T>): Promise<T> {
  const traces = await openTraces(loadConfig(context.configFile, context.workingFolder), context.clock, context.log);
  try {
    return await work(traces);
  } finally {
    await traces.close();
  }
}

function queryOf(context: CliContext, selection: TraceSelection): TraceQuery {
  const { since, until, sender, limit, follow: _follow, full: _full, ...same } = selection;
  if (limit !== undefined && !(Number.isInteger(limit) && limit > 0 && limit <= 1000))
    throw new UsageError('--limit is a number from 1 to 1000');
  const now = context.clock.now();
  return {
    ...same,
    ...(sender === undefined ? {} : { sender: sender === '<>' ? '' : sender }),
    ...(since === undefined ? {} : { from: timeOption('--since', since, now) }),
    ...(until === undefined ? {} : { to: timeOption('--until', until, now) }),
    ...(limit === undefined ? {} : { limit }),
  };
}

async function find(traces: TraceStore, id: string): Promise<StoredTrace> {
  const found = await traces.find(id.toUpperCase());
  if (!found) throw new UsageError(`No trace of '${id}'`, exitCodes.negative);
  return found;
}

function whole({ record, events }: StoredTrace, color: boolean): string {
  return [
    renderTrace(record, color),
    ...events.map(
      event =>
        `  ${new Date(event.at).toISOString()} ${printable(event.address)}: ${event.outcome}${event.detail ? ` (${printable(event.detail)})` : ''}`,
    ),
  ].join('\n');
}

const head = ['ID', 'RECEIVED', 'OUTCOME', 'DECIDED', 'SENDER', 'RECIPIENT', 'CLIENT', 'SUBJECT'];

function row(record: TraceRecord): readonly string[] {
  const [first, ...more] = record.recipients;
  return [
    record.id,
    showTime(record.receivedAt),
    record.outcome,
    decisiveStep(record)?.plugin ?? '',
    printable(record.sender === '' ? '<>' : record.sender),
    first ? `${printable(first.address)}${more.length > 0 ? ` +${more.length}` : ''}` : '',
    record.client.address,
    printable(record.subject ?? ''),
  ];
}

/** With `id` that message; otherwise those that the options select, newest first. */
export function trace(context: CliContext, id: string | undefined, selection: TraceSelection): Promise<ExitCode> {
  return withTraces(context, async traces => {
    const query = queryOf(context, selection);
    if (id !== undefined) {
      if (selection.follow || Object.keys(query).length > 0)
        throw new UsageError('Name an id or options that select, not both');
      const found = await find(traces, id);
      print(context, found, () => whole(found, context.color));
      return exitCodes.ok;
    }
    if (selection.follow) return follow(context, traces, query, selection.full === true);
    const found = await traces.search(query);
    print(context, found, () => {
      if (found.length === 0) return 'No message fits.';
      if (selection.full) return found.map(each => whole(each, context.color)).join('\n\n');
      return formatTable(
        head,
        found.map(({ record }) => row(record)),
      );
    });
    return found.length > 0 ? exitCodes.ok : exitCodes.negative;
  });
}

const pollMs = 500;

/** Prints records as they are stored, until a signal or until nobody reads. JSON: one object a line. */
async function follow(context: CliContext, traces: TraceStore, query: TraceQuery, full: boolean): Promise<ExitCode> {
  let over = false;
  let wake = (): void => {};
  const stop = (): void => {
    over = true;
    wake();
  };
  context.onSignal(stop);
  context.stdout.once('error', stop);
  const { limit: _limit, ...filter } = query;
  let after = await traces.lastSeq();
  if (!context.json && !full) context.stdout.write(`${head.join('  ')}\n`);
  while (!over) {
    // A store that was emptied begins anew.
    const last = await traces.lastSeq();
    if (last < after) after = 0;
    const found = last > after ? await traces.search({ ...filter, after, limit: 200 }) : [];
    for (const each of found) {
      const text = context.json
        ? JSON.stringify(each)
        : full
          ? `${whole(each, context.color)}\n`
          : row(each.record).join('  ');
      context.stdout.write(`${text}\n`);
    }
    // A full page may have more behind it; otherwise all up to `last` was looked at.
    after = found.length === 200 ? (found.at(-1)?.seq ?? last) : Math.max(last, found.at(-1)?.seq ?? 0);
    if (found.length === 200) continue;
    await new Promise<void>(resolve => {
      const cancel = context.clock.after(pollMs, resolve);
      wake = () => {
        cancel();
        resolve();
      };
      if (over) wake();
    });
  }
  return exitCodes.ok;
}

/** postern why ID */
export function why(context: CliContext, id: string): Promise<ExitCode> {
  return withTraces(context, async traces => {
    const { record, events } = await find(traces, id);
    const explained = explainTrace(record, events);
    print(context, explained, () => {
      const part = (title: string, sentences: readonly string[]): readonly string[] =>
        sentences.length === 0 ? [] : ['', title, ...sentences.map(each => `  ${printable(each)}`)];
      return [
        ...explained.what.map(printable),
        ...part('Why:', explained.because),
        ...part('What would have changed it:', explained.otherwise),
        ...part('Besides:', explained.besides),
      ].join('\n');
    });
    return exitCodes.ok;
  });
}
