// Takes mail out of the maildrop and gives it to the chain as a submission of the user who owns the file.
//
// Nothing in the folder is trusted: a name leads to a regular file with one name only (no symbolic or hard link to what
// the gateway may read and its owner may not), it is read through one descriptor into memory or into the spool folder,
// and what does not parse is set aside under the name `ID.bad`. A file goes once its message is in the queue; a crash
// between the two is healed by the intake memory.
import { constants, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { Logger } from 'pino';
import { createDurableFiles } from '../lib/atomic-file.ts';
import type { Clock } from '../lib/clock.ts';
import { randomIdTime } from '../lib/random-id.ts';
import { formatDate } from '../mail/date.ts';
import { renderField } from '../mail/header-edit.ts';
import type { Rope } from '../mail/rope.ts';
import { isMaildropName, isPartName, type MaildropEnvelope, maxEnvelopeBytes, readEnvelope } from './maildrop-file.ts';
import type { IntakeMemory } from './memory.ts';
import type { Inject } from './ports.ts';
import { spoolMessage } from './spool.ts';

export interface PickupParts {
  readonly folder: string;
  /** Folder for messages that are too large for memory. */
  readonly spoolFolder: string;
  readonly hostname: string;
  /** Completes the name of a local user. */
  readonly origin: string;
  readonly maxSize: number;
  /** ms; a message that the chain defers for so long is refused. */
  readonly lifetimeMs: number;
  readonly memory: IntakeMemory;
  readonly inject: Inject;
  /** Users who may give any envelope sender; undefined: all. */
  readonly freeSenders: readonly number[] | undefined;
  /** Name of a local user; undefined where nobody has this number. */
  userName(uid: number): Promise<string | undefined>;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Pickup {
  /** Looks through the folder now; resolves when everything that could be taken is taken. */
  look(): Promise<void>;
  status(): { readonly waiting: number; readonly bad: number };
  close(): Promise<void>;
}

const source = 'maildrop';
const pollMs = 15_000;
const firstRetryMs = 10_000;
const maxRetryMs = 10 * 60_000;
/** What `sendmail` left behind when it was killed. */
const stalePartMs = 24 * 3_600_000;
const atOnce = 4;

interface Waiting {
  readonly tries: number;
  /** Of the monotonic clock. */
  readonly dueAt: number;
}

/** The file is no mail; the sentence is for the administrator. */
class BadFileError extends Error {
  override readonly name = 'BadFileError';
}

interface Opened {
  readonly envelope: MaildropEnvelope;
  readonly uid: number;
  readonly message: Rope;
  dispose(): Promise<void>;
}

async function readLine(handle: FileHandle, size: number): Promise<{ readonly line: string; readonly end: number }> {
  const head = Buffer.alloc(Math.min(size, maxEnvelopeBytes));
  const { bytesRead } = await handle.read(head, 0, head.length, 0);
  const end = head.subarray(0, bytesRead).indexOf(0x0a);
  if (end < 0) throw new BadFileError('it does not begin with an envelope');
  return { line: head.toString('utf8', 0, end), end: end + 1 };
}

async function* chunks(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  for (let at = start; at < end; ) {
    const chunk = Buffer.allocUnsafeSlow(Math.min(65_536, end - at));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) throw new BadFileError('it became shorter while it was read');
    at += bytesRead;
    yield chunk.subarray(0, bytesRead);
  }
}

async function openMail(parts: PickupParts, name: string): Promise<Opened> {
  const file = path.join(parts.folder, name);
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(file, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ELOOP') throw new BadFileError('it is a symbolic link', { cause: error });
    throw error;
  });
  const spool = path.join(parts.spoolFolder, `${name}.incoming`);
  try {
    const facts = await handle.stat();
    if (!facts.isFile()) throw new BadFileError('it is no regular file');
    if (facts.nlink !== 1) throw new BadFileError('it has more than one name');
    if (facts.size > parts.maxSize + maxEnvelopeBytes) throw new BadFileError('it is too large');
    const { line, end } = await readLine(handle, facts.size);
    const envelope = readEnvelope(line);
    if (!envelope) throw new BadFileError('its envelope is not valid');
    // Copied out of the user's reach: he may change the file, or what its name stands for, at any time.
    const { rope, dispose } = await spoolMessage(chunks(handle, end, facts.size), spool);
    return { envelope, uid: facts.uid, message: rope, dispose };
  } finally {
    await handle.close();
  }
}

export function createPickup(parts: PickupParts): Pickup {
  const { folder, clock, log, memory } = parts;
  const durable = createDurableFiles();
  const deferred = new Map<string, Waiting>();
  let waiting = 0;
  let bad = 0;
  let closed = false;
  let running: Promise<void> | undefined;
  let again = false;
  let cancelPoll = (): void => undefined;

  async function gone(name: string): Promise<void> {
    await durable.remove(path.join(folder, name));
    await memory.forget(source, [name]);
    deferred.delete(name);
  }

  async function setAside(name: string, why: string): Promise<void> {
    log.error(
      { event: 'maildrop-bad', file: path.join(folder, name), why },
      `'${name}' in the maildrop is not taken: ${why}`,
    );
    await rename(path.join(folder, name), path.join(folder, `${name.slice(0, -5)}.bad`));
  }

  function wait(name: string): void {
    const tries = (deferred.get(name)?.tries ?? 0) + 1;
    deferred.set(name, { tries, dueAt: clock.monotonic() + Math.min(firstRetryMs * 2 ** (tries - 1), maxRetryMs) });
  }

  async function take(name: string): Promise<void> {
    const mail = await openMail(parts, name);
    try {
      const receivedAt = Math.min(randomIdTime(name.slice(0, -5)), clock.now());
      const user = (await parts.userName(mail.uid)) ?? `uid${mail.uid}`;
      const own = `${user}@${parts.origin}`;
      const free = parts.freeSenders === undefined || parts.freeSenders.includes(mail.uid);
      if (!free && mail.envelope.sender?.text.toLowerCase() !== own.toLowerCase())
        throw new BadFileError(`'${user}' may not send as '${mail.envelope.sender?.text ?? '<>'}'`);
      const trace = (id: string): Buffer =>
        renderField(
          'Received',
          `by ${parts.hostname} (Postern, from userid ${mail.uid})\r\n\tid ${id};\r\n\t${formatDate(receivedAt)}`,
        );
      const result = await parts.inject({
        origin: 'sendmail',
        role: 'submission',
        client: { address: '127.0.0.1', helo: parts.hostname },
        identity: { name: own, mechanism: 'LOCAL' },
        envelope: mail.envelope,
        trace,
        message: mail.message,
        receivedAt,
        refusals: 'report',
        last: clock.now() - receivedAt > parts.lifetimeMs,
        also: as => [memory.note(source, name, clock.now(), as)],
      });
      if (result.kind === 'deferred') wait(name);
      else await gone(name);
    } finally {
      await mail.dispose();
    }
  }

  async function takeSafely(name: string): Promise<void> {
    try {
      await take(name).catch((error: unknown) => {
        if (error instanceof BadFileError) return setAside(name, error.message);
        throw error;
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      log.error({ err: error, file: path.join(folder, name) }, 'Mail in the maildrop cannot be read now');
      wait(name);
    }
  }

  async function removeStale(name: string): Promise<void> {
    const file = path.join(folder, name);
    const facts = await stat(file).catch(() => undefined);
    if (facts && clock.now() - facts.mtimeMs > stalePartMs) await unlink(file).catch(() => undefined);
  }

  async function lookOnce(): Promise<void> {
    const names = await readdir(folder);
    bad = names.filter(name => name.endsWith('.bad')).length;
    const mails = names.filter(isMaildropName).sort();
    const taken = mails.length > 0 ? await memory.of(source) : new Map();
    for (const name of mails) if (taken.has(name)) await gone(name);
    const due = mails.filter(name => !taken.has(name) && (deferred.get(name)?.dueAt ?? 0) <= clock.monotonic());
    waiting = mails.length;
    const queue = [...due];
    const worker = async (): Promise<void> => {
      for (let name = queue.shift(); name !== undefined && !closed; name = queue.shift()) await takeSafely(name);
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    for (const name of names.filter(isPartName)) await removeStale(name);
    waiting = (await readdir(folder)).filter(isMaildropName).length;
  }

  function schedule(): void {
    cancelPoll();
    if (closed) return;
    const next = Math.min(...[...deferred.values()].map(each => each.dueAt - clock.monotonic()), pollMs);
    cancelPoll = clock.after(Math.max(next, 100), () => void look());
  }

  function look(): Promise<void> {
    if (closed) return running ?? Promise.resolve();
    again = true;
    running ??= (async () => {
      try {
        while (again && !closed) {
          again = false;
          await lookOnce();
        }
      } catch (error) {
        log.error({ err: error, folder }, 'The maildrop cannot be read');
      } finally {
        running = undefined;
        schedule();
      }
    })();
    return running;
  }

  let watcher: FSWatcher | undefined;
  const unwatched = (error: unknown): void =>
    log.warn({ err: error, folder }, 'The maildrop cannot be watched; it is polled');
  try {
    watcher = watch(folder, { persistent: false }, (_event, name) => {
      if (name === null || isMaildropName(name)) void look();
    });
    watcher.on('error', unwatched);
  } catch (error) {
    // ENOSPC: the system has no more watches.
    unwatched(error);
  }
  void look();

  return {
    look,
    status: () => ({ waiting, bad }),
    async close() {
      closed = true;
      cancelPoll();
      watcher?.close();
      await running;
    },
  };
}
