// postern sendmail, and the links mailq and newaliases: sendmail(1) for cron, PHP and everything else that pipes mail into
// a program. Exit 0 means that the message is durable in the maildrop, whether or not a gateway runs. Other codes are
// those of sysexits(3): 64 usage, 65 not mail, 67 an address that is none, 75 try again, 77 not allowed, 78 configuration.
import { statSync } from 'node:fs';
import { hostname as machineName } from 'node:os';
import { maildropFolder, originOf } from '../compose/maildrop.ts';
import { findSystemUser } from '../compose/system-users.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import { dropMail, ensureMaildrop } from '../intake/maildrop-writer.ts';
import { randomId } from '../lib/random-id.ts';
import { type Address, makeAddress, parseMailbox } from '../mail/address.ts';
import { mailboxesOf, parseAddressList } from '../mail/address-list.ts';
import { formatMessageId } from '../mail/message-id.ts';
import { type CliContext, type ExitCode, exitCodes, UsageError } from './context.ts';
import {
  canonicalLines,
  completeHeaders,
  headerRecipients,
  MessageDataError,
  splitMessage,
} from './sendmail-message.ts';
import { parseSendmail, type SendmailOptions } from './sendmail-options.ts';

interface LocalUser {
  readonly uid: number;
  readonly name: string;
  readonly fullName: string;
}

async function localUser(): Promise<LocalUser> {
  const uid = process.getuid?.() ?? 0;
  const found = await findSystemUser(uid);
  return { uid, name: found?.name ?? `uid${uid}`, fullName: found?.fullName ?? '' };
}

/** RFC 5321 needs a domain; programs often give none. */
function addressOf(text: string, origin: string): Address {
  const parsed = parseMailbox(text, { smtputf8: true, bareLocal: true });
  if (parsed.kind === 'error') throw new UsageError(`'${text}' is not an address`, exitCodes.noUser);
  const { address } = parsed;
  return address.domain === '' ? makeAddress(address.local, origin) : address;
}

/** An argument may be a list, and may carry names: `Bob <bob@example.org>, carol`. */
const listed = (argument: string): readonly string[] => {
  const boxes = mailboxesOf(parseAddressList(argument));
  if (boxes.length === 0) throw new UsageError(`'${argument}' is not an address`, exitCodes.noUser);
  return boxes.map(({ local, domain }) => (domain === '' ? local : `${local}@${domain}`));
};

/** The gateway made the folder. It looks again when it takes the file: this here is for a good error message. */
const ownsMaildrop = (config: LoadedConfig, { uid }: LocalUser): boolean =>
  statSync(maildropFolder(config), { throwIfNoEntry: false })?.uid === uid;

function senderOf(options: SendmailOptions, user: LocalUser, config: LoadedConfig, origin: string): Address | null {
  const own = makeAddress(user.name, origin);
  if (options.sender === undefined) return own;
  const given = options.sender === '' ? null : addressOf(listed(options.sender)[0] ?? '', origin);
  const free = config.options.sendmail.senders === 'any' || user.uid === 0 || ownsMaildrop(config, user);
  if (!free && given?.text.toLowerCase() !== own.text.toLowerCase())
    throw new UsageError(`Sender '${options.sender}' is not allowed to '${user.name}'`, exitCodes.permission);
  return given;
}

/** What the failure to store means for the caller: try again, or it can never work. */
function storeFailure(error: unknown, folder: string): UsageError {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new UsageError(
      `Cannot write to the maildrop '${folder}': ${message}. Set sendmail.maildrop to a folder that all users may enter`,
      exitCodes.permission,
    );
  return new UsageError(`Cannot write to the maildrop '${folder}': ${message}`, exitCodes.temporary);
}

async function send(context: CliContext, config: LoadedConfig, options: SendmailOptions): Promise<ExitCode> {
  const hostname = config.options.hostname ?? machineName();
  const origin = originOf(config, hostname);
  const user = await localUser();
  const sender = senderOf(options, user, config, origin);
  const { maxSize, headerSize } = config.options.message;
  const lines = canonicalLines(context.stdin as AsyncIterable<Buffer>, { ignoreDots: options.ignoreDots, maxSize });
  const { headers, body } = await splitMessage(lines, headerSize);
  const named = [...options.recipients.flatMap(listed), ...(options.fromHeader ? headerRecipients(headers) : [])];
  if (named.length === 0)
    throw new UsageError(
      options.fromHeader ? 'No recipients in To, Cc or Bcc, and none given' : 'Name the recipients, or give -t',
    );
  const recipients = new Map(named.map(text => addressOf(text, origin)).map(address => [address.text, address]));
  const now = context.clock.now();
  const section = completeHeaders(headers, {
    from: { address: (sender ?? makeAddress(user.name, origin)).text, name: options.fullName ?? user.fullName },
    messageId: formatMessageId(randomId(now), hostname),
    now,
    zoneMinutes: -new Date(now).getTimezoneOffset(),
  });
  async function* message(): AsyncGenerator<Buffer> {
    yield section;
    yield* body;
  }
  const folder = maildropFolder(config);
  const envelope = {
    sender,
    recipients: [...recipients.values()].map(address =>
      options.notify === undefined ? { address } : { address, notify: options.notify },
    ),
    ...(options.ret === undefined ? {} : { ret: options.ret }),
    ...(options.envid === undefined ? {} : { envid: options.envid }),
  };
  try {
    await ensureMaildrop(folder);
    await dropMail(folder, envelope, message(), now);
  } catch (error) {
    if (error instanceof MessageDataError) throw error;
    throw storeFailure(error, folder);
  }
  return exitCodes.ok;
}

/** Aliases are read by the gateway itself: it is told to, and one that does not run reads them when it starts. */
async function newAliases(context: CliContext): Promise<ExitCode> {
  const [{ reload }, { NotRunningError }] = await Promise.all([
    import('./gateway-commands.ts'),
    import('../control/client.ts'),
  ]);
  try {
    return await reload({ ...context, json: false });
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
    context.stdout.write('The gateway is not running; it reads the aliases when it starts.\n');
    return exitCodes.ok;
  }
}

async function flush(context: CliContext, config: LoadedConfig): Promise<ExitCode> {
  const { openQueueAlone } = await import('../compose/stores.ts');
  const opened = await openQueueAlone(config, context.clock, context.log);
  try {
    await opened.queue.flush();
    return exitCodes.ok;
  } finally {
    await opened.close();
  }
}

/** `args` as after the program's name; `start` is what that name stands for. */
export async function sendmail(
  context: CliContext,
  args: readonly string[],
  start: SendmailOptions['mode'] = 'send',
): Promise<ExitCode> {
  const options = parseSendmail(args, start);
  const configFile = options.configFile ?? context.configFile;
  const config = loadConfig(configFile, context.workingFolder);
  try {
    switch (options.mode) {
      case 'send':
        return await send(context, config, options);
      case 'queue':
        return await (await import('./mailq.ts')).printQueue(context, config);
      case 'aliases':
        return await newAliases({ ...context, configFile });
      case 'flush':
        return await flush(context, config);
    }
  } catch (error) {
    if (error instanceof MessageDataError) throw new UsageError(error.message, exitCodes.data);
    throw error;
  }
}
