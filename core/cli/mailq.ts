// The queue as mailq(1) of Postfix prints it, because scripts read that.
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { maildropFolder } from '../compose/maildrop.ts';
import { openQueueAlone } from '../compose/stores.ts';
import type { LoadedConfig } from '../config/load.ts';
import { isMaildropName } from '../intake/maildrop-file.ts';
import { type CliContext, type ExitCode, exitCodes, UsageError } from './context.ts';

const atMost = 10_000;

/** `Sat Nov 28 07:37:42`, in the time zone of the machine. */
const arrival = (ms: number): string => {
  const [day = '', month = '', date = '', , time = ''] = new Date(ms).toString().split(' ');
  return `${day} ${month} ${String(Number(date)).padStart(2)} ${time}`;
};

interface Waiting {
  readonly id: string;
  readonly size: number;
  readonly at: number;
}

/** What no gateway has taken yet. */
async function maildropEntries(folder: string): Promise<readonly Waiting[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const found = await Promise.all(
    names.filter(isMaildropName).map(async name => {
      const facts = await stat(path.join(folder, name)).catch(() => undefined);
      return facts ? [{ id: name.slice(0, -5), size: facts.size, at: facts.mtimeMs }] : [];
    }),
  );
  return found.flat();
}

export async function printQueue(context: CliContext, config: LoadedConfig): Promise<ExitCode> {
  const opened = await openQueueAlone(config, context.clock, context.log).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`Cannot read the queue: ${error.message}`, exitCodes.permission);
  });
  try {
    const [entries, dropped] = await Promise.all([
      opened.queue.list({}, atMost),
      maildropEntries(maildropFolder(config)),
    ]);
    const count = entries.length + dropped.length;
    if (count === 0) {
      context.stdout.write('Mail queue is empty\n');
      return exitCodes.ok;
    }
    const lines = ['-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------'];
    const head = (id: string, mark: string, size: number, at: number, sender: string): string =>
      `${`${id}${mark}`.padEnd(18)} ${String(size).padStart(8)} ${arrival(at)}  ${sender}`;
    for (const entry of entries) {
      // Postfix: `!` is on hold.
      const mark = entry.recipients.every(each => each.state === 'held') ? '!' : '';
      lines.push(
        head(entry.id, mark, entry.size, entry.receivedAt, entry.sender === '' ? 'MAILER-DAEMON' : entry.sender),
      );
      for (const recipient of entry.recipients) {
        if (recipient.why !== undefined) lines.push(`(${recipient.why})`.padStart(62));
        lines.push(`${' '.repeat(50)}${recipient.address}`);
      }
      lines.push('');
    }
    for (const { id, size, at } of dropped) lines.push(head(id, '', size, at, '(maildrop)'), '');
    const kbytes = Math.ceil([...entries, ...dropped].reduce((sum, each) => sum + each.size, 0) / 1024);
    lines.push(`-- ${kbytes} Kbytes in ${count} Request${count === 1 ? '' : 's'}.`);
    context.stdout.write(`${lines.join('\n')}\n`);
    return exitCodes.ok;
  } finally {
    await opened.close();
  }
}
