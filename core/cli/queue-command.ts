// postern queue list | show | flush | hold | release | delete | bounce | reroute | destinations | hold-destination |
// release-destination: the queue of this data folder, with or without a
// running gateway. A running one takes changes in within seconds.

import { openQueueAlone } from '../compose/stores.ts';
import { loadConfig } from '../config/load.ts';
import type { QueueAdmin, QueueFilter } from '../queue/admin.ts';
import { parseNextHop } from '../relay/route.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { formatTable } from './table.ts';
import { showTime } from './time-option.ts';

async function withQueue<T>(context: CliContext, work: (queue: QueueAdmin) => Promise<T>): Promise<T> {
  const opened = await openQueueAlone(
    loadConfig(context.configFile, context.workingFolder),
    context.clock,
    context.log,
  );
  try {
    return await work(opened.queue);
  } finally {
    await opened.close();
  }
}

export interface QueueSelection {
  readonly id?: string;
  readonly sender?: string;
  readonly recipient?: string;
  readonly domain?: string;
  readonly all?: boolean;
}

function filterOf(selection: QueueSelection): QueueFilter {
  const { id, sender, recipient, domain } = selection;
  const filter: QueueFilter = {
    ...(id === undefined ? {} : { id }),
    ...(sender === undefined ? {} : { sender: sender === '<>' ? '' : sender }),
    ...(recipient === undefined ? {} : { recipient }),
    ...(domain === undefined ? {} : { recipientDomain: domain }),
  };
  if (Object.keys(filter).length === 0 && !selection.all)
    throw new UsageError('Name a queue id, --sender, --recipient, --domain or --all');
  return filter;
}

const time = (ms: number | undefined): string => (ms === undefined ? '-' : showTime(ms));

export function queueList(context: CliContext, options: { readonly limit: number }): Promise<ExitCode> {
  return withQueue(context, async queue => {
    const entries = await queue.list({}, options.limit);
    print(context, entries, () => {
      if (entries.length === 0) return 'The queue is empty.';
      const rows = entries.flatMap(entry =>
        entry.recipients.map(recipient => [
          entry.id,
          time(entry.receivedAt),
          entry.sender === '' ? '<>' : entry.sender,
          recipient.address,
          recipient.state,
          String(recipient.attempts),
          time(recipient.dueAt),
          recipient.why ?? '',
        ]),
      );
      return formatTable(['ID', 'RECEIVED', 'SENDER', 'RECIPIENT', 'STATE', 'TRIES', 'NEXT', 'WHY'], rows);
    });
    return exitCodes.ok;
  });
}

export function queueShow(context: CliContext, id: string): Promise<ExitCode> {
  return withQueue(context, async queue => {
    const [entry] = await queue.list({ id }, 1);
    if (!entry) throw new UsageError(`Nothing is queued as '${id}'`, exitCodes.negative);
    print(context, entry, () =>
      [
        `${entry.id}  received ${time(entry.receivedAt)}  expires ${time(entry.expiresAt)}  ${entry.size} bytes`,
        `  from ${entry.sender === '' ? '<>' : entry.sender}`,
        ...entry.recipients.map(
          recipient =>
            `  to ${recipient.address} by ${recipient.destination}: ${recipient.state}, ${recipient.attempts} tries, next ${time(recipient.dueAt)}${recipient.why ? ` (${recipient.why})` : ''}`,
        ),
      ].join('\n'),
    );
    return exitCodes.ok;
  });
}

type Change = 'flush' | 'hold' | 'release' | 'delete' | 'bounce' | 'reroute';

const words: Readonly<Record<Change, string>> = {
  flush: 'due now',
  hold: 'held',
  release: 'released',
  delete: 'deleted',
  bounce: 'returned to their senders',
  reroute: 'rerouted',
};

/** Each of the changes; the id may stand as an argument or any option may select. */
export function queueChange(change: Change) {
  return (
    context: CliContext,
    id: string | undefined,
    options: QueueSelection & { readonly note?: string; readonly via?: string },
  ): Promise<ExitCode> =>
    withQueue(context, async queue => {
      const filter = filterOf({ ...options, ...(id === undefined ? {} : { id }) });
      const { via = '' } = options;
      if (change === 'reroute' && !parseNextHop(via, 25, true))
        throw new UsageError(`'${via}' is not a next hop: expected host, host:port or [host]:port`);
      const apply: Readonly<Record<Change, () => Promise<number>>> = {
        flush: () => (Object.keys(filter).length === 0 ? queue.flush() : queue.requeue(filter)),
        hold: () => queue.hold(filter),
        release: () => queue.release(filter),
        delete: () => queue.delete(filter),
        bounce: () => queue.bounce(filter, options.note ?? 'Returned by the administrator'),
        reroute: () => queue.reroute(filter, via),
      };
      const recipients = await apply[change]();
      print(context, { recipients }, () => `${recipients} recipients ${words[change]}`);
      return recipients > 0 || options.all ? exitCodes.ok : exitCodes.negative;
    });
}

export function queueDestinations(context: CliContext, options: { readonly limit: number }): Promise<ExitCode> {
  return withQueue(context, async queue => {
    const destinations = await queue.destinations(options.limit);
    print(context, destinations, () => {
      if (destinations.length === 0) return 'The queue is empty.';
      const rows = destinations.map(each => [
        each.name,
        String(each.recipients),
        each.held ? 'held' : each.failures > 0 ? `down, ${each.failures} tries` : 'up',
        each.held ? '-' : time(each.readyAt),
        each.why ?? '',
      ]);
      return formatTable(['DESTINATION', 'RECIPIENTS', 'STATE', 'NEXT', 'WHY'], rows);
    });
    return exitCodes.ok;
  });
}

/** Keeps everything for one destination back, or lets it go. */
export function queueDestinationHold(hold: boolean) {
  return (context: CliContext, name: string): Promise<ExitCode> =>
    withQueue(context, async queue => {
      await (hold ? queue.holdDestination(name) : queue.releaseDestination(name));
      print(context, { destination: name, held: hold }, () => `${name}: ${hold ? 'held' : 'released'}`);
      return exitCodes.ok;
    });
}
