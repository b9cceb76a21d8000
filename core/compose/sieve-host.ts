// The ports of the rules engine over this gateway: one user's mailboxes, the submitter, the state store. A fault that may
// pass is temporary, and then nothing is decided: the message is offered again.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseMailbox } from '../mail/address.ts';
import type { Recipient } from '../mail/envelope.ts';
import { readMessage } from '../mail/message.ts';
import type { DeliveryResult, DeliveryTarget, MailStore, UserMail } from '../mailstore/mailbox.ts';
import { flagBits, MailboxError, mailboxId } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import type { ScriptPort } from '../sieve/contract.ts';
import type { MailboxPort, OutgoingMail, OutgoingPort, TrackingPort } from '../sieve/ports.ts';
import { HostError } from '../sieve/ports.ts';
import { ScriptError, type SieveScripts } from '../sieve/script-store.ts';
import type { Forwarding } from './forwarding.ts';
import type { CompiledScripts } from './sieve-compiled.ts';
import type { StoreBatch } from './store-batch.ts';
import { NotSubmittedError, type Submitter } from './submitter.ts';

export interface Owner {
  /** Account name. */
  readonly user: string;
  readonly quotaBytes?: number;
}

export const hostError = (error: unknown): HostError => {
  if (error instanceof HostError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const permanent = error instanceof MailboxError && error.code !== 'unavailable' && error.code !== 'inuse';
  return new HostError(permanent ? 'permanent' : 'temporary', message, { cause: error });
};

/** IMAP flags of a script as the store takes them; what no mailbox can keep is left out (RFC 5232 §2). */
export function storedFlags(flags: readonly string[]): { readonly flags: number; readonly keywords: string[] } {
  let bits = 0;
  const keywords: string[] = [];
  for (const flag of flags) {
    const system = Object.keys(flagBits).find(name => name.toLowerCase() === flag.toLowerCase());
    if (system !== undefined) bits |= flagBits[system as keyof typeof flagBits];
    else if (!flag.startsWith('\\')) keywords.push(flag);
  }
  return { flags: bits, keywords };
}

const isInbox = (name: string): boolean => name.toUpperCase() === 'INBOX';
export const canonical = (name: string): string => (isInbox(name) ? 'INBOX' : name);

export type WithUser = <T>(work: (user: UserMail) => Promise<T>) => Promise<T>;

/** What can be asked of a user's mailboxes, and done to them, besides storing. */
export function mailboxNames(
  user: string,
  withUser: WithUser,
  metadata: Metadata,
): Omit<Required<MailboxPort>, 'store' | 'mayStore' | 'invalidName'> {
  const all = () => withUser(mail => mail.list());
  const find = async (name: string) =>
    (await all()).find(mailbox => mailbox.name === canonical(name) && mailbox.selectable);
  return {
    exists: async name => isInbox(name) || (await find(name)) !== undefined,
    /** Subscribed at once, or most mail programs would not show it. */
    create: (name, { specialUse }) =>
      withUser(async mail => {
        const uses = specialUse === undefined ? {} : { specialUse: [specialUse as `\\Junk`] };
        await mail.create(name, uses).catch((error: unknown) => {
          if (!(error instanceof MailboxError && error.code === 'alreadyexists')) throw error;
        });
        await mail.subscribe(name, true);
      }),
    async delete(name) {
      await withUser(mail => mail.delete(name));
      await metadata.remove(user, canonical(name));
    },
    bySpecialUse: async use =>
      (await all()).find(({ specialUse }) => specialUse.some(own => own.toLowerCase() === use.toLowerCase()))?.name,
    specialUses: async name => (await find(name))?.specialUse ?? [],
    byId: id =>
      withUser(async mail => {
        for (const { name, selectable } of await mail.list())
          if (selectable && mailboxId((await mail.status(name)).uidValidity) === id) return name;
        return undefined;
      }),
    async metadata(mailbox, entry) {
      const entries = await metadata.entries(user, mailbox === null ? '' : canonical(mailbox)).catch(rethrow);
      return entries.get(entry)?.toString('utf8');
    },
  };
}

const rethrow = (error: unknown): never => {
  throw hostError(error);
};

/** `failed` hears what became of the last message that could not be stored. */
export function mailboxPort(
  owner: Owner,
  store: MailStore,
  metadata: Metadata,
  batch: StoreBatch,
  failed: (result: Exclude<DeliveryResult, { kind: 'stored' }>) => void,
): MailboxPort {
  const withUser: WithUser = async work => {
    try {
      const { user: name, quotaBytes } = owner;
      const user = await store.user(name, quotaBytes === undefined ? {} : { quotaBytes });
      try {
        return await work(user);
      } finally {
        user.release();
      }
    } catch (error) {
      throw hostError(error);
    }
  };
  const names = mailboxNames(owner.user, withUser, metadata);
  return {
    ...names,
    async store({ mailbox, flags, create, specialUse, message }) {
      const name = canonical(mailbox);
      const target: DeliveryTarget = { ...owner, mailbox: name, ...storedFlags(flags) };
      let result = await batch.store(message, target);
      // Mostly it is there: asking first would cost more than the script.
      if (result.kind === 'nomailbox' && create) {
        await names.create(name, specialUse === undefined ? {} : { specialUse });
        result = await batch.store(message, target);
      }
      if (result.kind === 'stored') return;
      failed(result);
      throw new HostError(result.kind === 'nomailbox' ? 'permanent' : 'temporary', result.why);
    },
  };
}

function recipientOf(text: string, dsn: OutgoingMail['dsn']): Recipient {
  const parsed = parseMailbox(text);
  if (parsed.kind !== 'address') throw new HostError('permanent', `'${text}' is not an address`);
  const notify = dsn?.notify?.map(word => word.toLowerCase()) as Recipient['notify'];
  const [type, ...address] = dsn?.orcpt?.split(';') ?? [];
  return {
    address: parsed.address,
    ...(notify === undefined ? {} : { notify }),
    ...(type === undefined || address.length === 0 ? {} : { orcpt: { type, address: address.join(';') } }),
  };
}

/** `origin` names in traces who sent; `refuse` keeps the text for the client, who hears it or a report of the queue. */
export function outgoingPort(
  { submitter, forwarding }: { readonly submitter: Pick<Submitter, 'send'>; readonly forwarding: Forwarding },
  origin: string,
  refuse?: (reason: string) => void,
): OutgoingPort {
  return {
    async refuse({ reason }) {
      refuse?.(reason);
      return refuse !== undefined;
    },
    async send({ from, to, message, dsn, reason }) {
      const rewritten = reason === 'redirect' && from !== '' ? to.map(each => forwarding.senderFor(from, each)) : [];
      const sender = rewritten.find(each => each !== from) ?? from;
      const parsed = sender === '' ? undefined : parseMailbox(sender);
      const { ret, envid } = dsn ?? {};
      try {
        await submitter.send({
          sender: parsed?.kind === 'address' ? parsed.address : null,
          recipients: to.map(address => recipientOf(address, dsn)),
          message: await readMessage(message),
          origin,
          envelope: { ...(ret === undefined ? {} : { ret }), ...(envid === undefined ? {} : { envid }) },
        });
      } catch (error) {
        if (!(error instanceof NotSubmittedError)) throw hostError(error);
        const { code, text } = error.reply;
        const kind = code >= 500 ? 'permanent' : 'temporary';
        throw new HostError(kind, `Mail to ${to.join(', ')} was refused: ${code} ${text}`, { cause: error });
      }
    },
  };
}

/**
 * Scripts that others include: the user's own by name, the gateway's from a folder as `NAME.sieve`. Each is compiled in its
 * own language, whoever includes it: a user's script does not get at programs by way of one of the gateway's.
 */
export function scriptPort(
  user: string,
  scripts: SieveScripts,
  globalFolder: string | undefined,
  compiled: CompiledScripts,
  imap: boolean,
): ScriptPort {
  async function source(location: 'personal' | 'global', name: string): Promise<Buffer | undefined> {
    try {
      if (location === 'personal') return await scripts.get(user, name);
      return await globalSource(globalFolder, name);
    } catch (error) {
      if (error instanceof ScriptError && ['nonexistent', 'name'].includes(error.code)) return undefined;
      throw hostError(error);
    }
  }
  return {
    async load(location, name) {
      const content = await source(location, name);
      if (content === undefined) return undefined;
      const result = compiled.compile(content, name, { own: location === 'global', imap });
      if (result.ok) return result.program;
      const [first] = result.diagnostics.filter(({ severity }) => severity === 'error');
      throw new HostError(
        'permanent',
        `Included script '${name}' is not valid: line ${first?.line}: ${first?.message}`,
      );
    },
  };
}

/** Undefined where there is none of that name. */
export async function globalSource(folder: string | undefined, name: string): Promise<Buffer | undefined> {
  if (folder === undefined || !/^[\w][\w.-]*$/.test(name)) return undefined;
  try {
    return await readFile(path.join(folder, `${name}.sieve`));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * What was sent before something else failed is not sent again with the next attempt at the message `id`: `keep` it then.
 */
export function sendOnce(
  port: OutgoingPort,
  memory: TrackingPort,
  id: string,
): { readonly port: OutgoingPort; keep(seconds: number): Promise<void> } {
  const sent = new Set<string>();
  return {
    port: {
      ...port,
      async send(mail) {
        const hash = createHash('sha256').update(mail.to.join('\0')).digest('base64url');
        const key = `sent:${id}:${mail.reason}:${hash}`;
        if (await memory.seen(key)) return;
        await port.send(mail);
        sent.add(key);
      },
    },
    async keep(seconds) {
      for (const key of sent) await memory.remember(key, seconds);
    },
  };
}
