// Actions that store the message: keep (RFC 5228 §4.3), fileinto (§4.1), discard (§4.4).

import type { Rope } from '../../mail/rope.ts';
import type { ActionDefinition, Complain, Execution, Meeting, Run } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { HostError } from '../ports.ts';
import type { Entry } from '../result.ts';

/** Complains about a name that no mailbox has anywhere; the store knows more. */
export function checkMailboxName(name: string, complain: Complain): void {
  if (name === '') complain('Name of a mailbox is empty');
  else if (/[\0-\x1f\x7f]/.test(name)) complain(`Name of mailbox ${quote(name)} holds control characters`);
  else if (Buffer.byteLength(name) > 1024) complain('Name of a mailbox is longer than 1024 bytes');
}

const isInbox = (name: string): boolean => name.toUpperCase() === 'INBOX';

function targetOf(entry: Entry, setting: (key: 'defaultMailbox') => string): string {
  const mailbox = entry.arguments['mailbox'];
  const name = typeof mailbox === 'string' ? mailbox : setting('defaultMailbox');
  // Two uses or ids may name one mailbox; what is known to differ is kept apart until it is stored.
  const how = [entry.arguments['specialuse'], entry.arguments['mailboxid']]
    .filter(value => value !== undefined)
    .join('\n');
  return `${isInbox(name) ? 'INBOX' : name}\n${how}`;
}

// RFC 5228 §2.10.3: once per mailbox; RFC 5232 §3: the last list of flags wins.
function meets(entry: Entry, earlier: Entry, run: Run): Meeting {
  if (earlier.action === 'reject' || earlier.action === 'ereject')
    return { conflict: `Action '${entry.action}' cannot be combined with '${earlier.action}' (line ${earlier.line})` };
  if (earlier.action !== 'keep' && earlier.action !== 'fileinto') return 'both';
  const setting = (key: 'defaultMailbox'): string => run.setting(key);
  if (targetOf(entry, setting) !== targetOf(earlier, setting)) return 'both';
  const create = entry.arguments['create'] ?? earlier.arguments['create'];
  return {
    replace: {
      ...earlier,
      flags: entry.flags,
      message: entry.message,
      arguments: create === undefined ? earlier.arguments : { ...earlier.arguments, create },
    },
  };
}

export interface StoreOptions {
  readonly mailbox: string;
  readonly create?: boolean;
  readonly specialUse?: string;
  readonly mailboxId?: string;
}

/** Which mailbox is meant: by id (RFC 9042 §3), by use (RFC 8579 §4), else by name. Throws `HostError`. */
async function resolveMailbox(options: StoreOptions, execution: Execution): Promise<string> {
  const { mailboxes } = execution.host;
  const { mailbox, specialUse, mailboxId } = options;
  const byId = mailboxId === undefined ? undefined : await mailboxes.byId?.(mailboxId);
  if (byId !== undefined) return byId;
  const byUse = specialUse === undefined ? undefined : await mailboxes.bySpecialUse?.(specialUse);
  if (byUse !== undefined) return byUse;
  const fault = mailboxes.invalidName?.(mailbox);
  if (fault !== undefined) throw new HostError('permanent', `Mailbox ${quote(mailbox)} has an invalid name: ${fault}`);
  return mailbox;
}

/** Fails where storing would: the name is bad, or there is no such mailbox and it may not be created. */
async function requireMailbox(options: StoreOptions, execution: Execution): Promise<void> {
  const name = await resolveMailbox(options, execution);
  if (options.create || execution.setting('autoCreate') || isInbox(name)) return;
  if (name === execution.setting('defaultMailbox')) return;
  if (!(await execution.host.mailboxes.exists(name)))
    throw new HostError('permanent', `Mailbox ${quote(name)} does not exist`);
}

async function storeIn(options: StoreOptions, entry: Entry, execution: Execution, copy?: Rope): Promise<void> {
  const mailbox = await resolveMailbox(options, execution);
  await execution.host.mailboxes.store({
    mailbox,
    flags: entry.flags,
    create: options.create === true || execution.setting('autoCreate') || isInbox(mailbox),
    ...(options.specialUse === undefined ? {} : { specialUse: options.specialUse }),
    ...(copy === undefined ? { message: entry.message.rope } : { message: copy, fcc: true }),
  });
  execution.detail = `stored in ${quote(mailbox)}`;
}

/** RFC 8580 §3: a copy of what was sent; a copy that cannot be kept is a warning, the mail is on its way. */
export async function storeCopy(entry: Entry, execution: Execution, message: Rope): Promise<void> {
  const { fcc } = entry.arguments;
  if (typeof fcc !== 'string') return;
  const { detail } = execution;
  try {
    const options = storeOptions(entry, fcc);
    await requireMailbox(options, execution);
    await storeIn(options, entry, execution, message);
  } catch (error) {
    execution.note('warning', entry, `Copy was not stored: ${error instanceof Error ? error.message : String(error)}`);
  }
  execution.detail = detail;
}

/** Reads what `fileinto` and its tags have put into an entry. */
function storeOptions(entry: Entry, mailbox: string): StoreOptions {
  const { create, specialuse, mailboxid } = entry.arguments;
  return {
    mailbox,
    ...(create === true ? { create } : {}),
    ...(typeof specialuse === 'string' ? { specialUse: specialuse } : {}),
    ...(typeof mailboxid === 'string' ? { mailboxId: mailboxid } : {}),
  };
}

const optionsOf = (entry: Entry, execution: Execution): StoreOptions => {
  const { mailbox } = entry.arguments;
  return storeOptions(entry, typeof mailbox === 'string' ? mailbox : execution.setting('defaultMailbox'));
};

const storing = (name: string): ActionDefinition => ({
  name,
  meets,
  prepare: (entry, execution) => requireMailbox(optionsOf(entry, execution), execution),
  execute: (entry, execution) => storeIn(optionsOf(entry, execution), entry, execution),
});

export const storeActions = defineExtension({
  name: 'store actions',
  always: true,
  hidden: true,
  commands: [
    { name: 'keep', run: call => call.act({ action: 'keep', arguments: {}, cancelsKeep: true }) },
    { name: 'discard', run: call => call.act({ action: 'discard', arguments: {}, cancelsKeep: true }) },
  ],
  actions: [
    storing('keep'),
    {
      name: 'discard',
      meets: (_, earlier) => (earlier.action === 'discard' ? 'drop' : 'both'),
      execute: async () => undefined,
    },
  ],
});

export const fileinto = defineExtension({
  name: 'fileinto',
  commands: [
    {
      name: 'fileinto',
      arguments: [{ name: 'mailbox', type: 'string', check: checkMailboxName }],
      run: call => call.act({ action: 'fileinto', arguments: { mailbox: call.string('mailbox') }, cancelsKeep: true }),
    },
  ],
  actions: [storing('fileinto')],
});

/** RFC 3894 */
export const copy = defineExtension({
  name: 'copy',
  tags: [
    {
      name: 'copy',
      on: ['fileinto', 'redirect'],
      apply(entry) {
        entry.arguments['copy'] = true;
        entry.cancelsKeep = false;
      },
    },
  ],
});
