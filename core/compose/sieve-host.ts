// The ports of the rules engine over this gateway: one user's mailboxes, the submitter, the state store. A fault that may
// pass is temporary, and then nothing is decided: the message is offered again.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseMailbox } from '../mail/address.ts';
import type { Recipient } from '../mail/envelope.ts';
import { readMessage } from '../mail/message.ts';
import type { DeliveryResult, DeliveryTarget, MailStore, UserMail } from '../mailstore/mailbox.ts';
import { flagBits, MailboxError } from '../mailstore/mailbox.ts';
import type { ScriptPort } from '../sieve/contract.ts';
import type { MailboxPort, OutgoingMail, OutgoingPort, TrackingPort } from '../sieve/ports.ts';
import { HostError } from '../sieve/ports.ts';
import { ScriptError, type SieveScripts } from '../sieve/script-store.ts';
import type { StoreBatch } from './store-batch.ts';
import { NotSubmittedError, type Submitter } from './submitter.ts';

export interface Owner {
  /** Account name. */
  readonly user: string;
  readonly quotaBytes?: number;
}

const hostError = (error: unknown): HostError => {
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

/** `failed` hears what became of the last message that could not be stored. */
export function mailboxPort(
  owner: Owner,
  store: MailStore,
  batch: StoreBatch,
  failed: (result: Exclude<DeliveryResult, { kind: 'stored' }>) => void,
): MailboxPort {
  async function withUser<T>(work: (user: UserMail) => Promise<T>): Promise<T> {
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
  }
  const isInbox = (name: string): boolean => name.toUpperCase() === 'INBOX';
  const find = (name: string) =>
    withUser(async user => (await user.list()).find(mailbox => mailbox.name === name && mailbox.selectable));
  const exists = async (name: string): Promise<boolean> => isInbox(name) || (await find(name)) !== undefined;
  /** Subscribed at once, or most mail programs would not show it. */
  const create = (name: string, specialUse?: string): Promise<void> =>
    withUser(async user => {
      const uses = specialUse === undefined ? {} : { specialUse: [specialUse as `\\Junk`] };
      await user.create(name, uses).catch((error: unknown) => {
        if (!(error instanceof MailboxError && error.code === 'alreadyexists')) throw error;
      });
      await user.subscribe(name, true);
    });
  return {
    exists,
    create: (name, options) => create(name, options.specialUse),
    delete: name => withUser(user => user.delete(name)),
    async bySpecialUse(use) {
      const all = await withUser(user => user.list());
      return all.find(({ specialUse }) => specialUse.some(own => own.toLowerCase() === use.toLowerCase()))?.name;
    },
    async specialUses(name) {
      return (await find(isInbox(name) ? 'INBOX' : name))?.specialUse ?? [];
    },
    async store({ mailbox, flags, create: mayCreate, specialUse, message }) {
      const name = isInbox(mailbox) ? 'INBOX' : mailbox;
      if (mayCreate && !(await exists(name))) await create(name, specialUse);
      const target: DeliveryTarget = { ...owner, mailbox: name, ...storedFlags(flags) };
      const result = await batch.store(message, target);
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
  submitter: Pick<Submitter, 'send'>,
  origin: string,
  refuse: (reason: string) => void,
): OutgoingPort {
  return {
    async refuse({ reason }) {
      refuse(reason);
      return true;
    },
    async send({ from, to, message, dsn }) {
      const parsed = from === '' ? undefined : parseMailbox(from);
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

/** Scripts that others include: the user's own by name, the gateway's from a folder as `NAME.sieve`. */
export function scriptPort(user: string, scripts: SieveScripts, globalFolder: string | undefined): ScriptPort {
  return {
    async load(location, name) {
      try {
        if (location === 'personal') return await scripts.get(user, name);
        if (globalFolder === undefined || !/^[\w][\w.-]*$/.test(name)) return undefined;
        return await readFile(path.join(globalFolder, `${name}.sieve`));
      } catch (error) {
        if (error instanceof ScriptError && ['nonexistent', 'name'].includes(error.code)) return undefined;
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw hostError(error);
      }
    },
  };
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
