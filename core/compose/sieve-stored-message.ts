// One message that lies in a mailbox, as rules see it and as they leave it. Messages in IMAP do not change: what a script
// edits is in its copies only (RFC 6785 §3.7). The message keeps its place wherever anything fails; what becomes of it
// there, flags and \Deleted, is done last.
import { flagNames } from '../imap/flags.ts';
import { type Message, readMessage } from '../mail/message.ts';
import { bufferRope, concatRopes, type Rope, sliceRope } from '../mail/rope.ts';
import { findRecord, flagBits, type Mailbox, type MessageRecord, type UserMail } from '../mailstore/mailbox.ts';
import type { Metadata } from '../mailstore/metadata.ts';
import type { MailboxPort, StoreRequest } from '../sieve/ports.ts';
import { canonical, hostError, mailboxNames, storedFlags } from './sieve-host.ts';

export interface StoredPlace {
  /** Account name. */
  readonly user: string;
  readonly mail: UserMail;
  readonly mailbox: Mailbox;
  readonly metadata: Metadata;
}

export interface StoredOptions {
  /** Whether a `keep` of an edited message puts the edited one in its place (draft-bosch-imap-filter-sieve-00 §4.1). */
  readonly replaceEdited: boolean;
  /** What is not kept is expunged at once, and not only marked (RFC 6785 §2.2.4). */
  readonly expunge: boolean;
  /** Nothing is done, `done` says what would be. */
  readonly dryRun?: boolean;
}

interface Parted {
  /** Without Return-Path: as it was at delivery. */
  readonly message: Message;
  /** Return-Path, as it stands in front. */
  readonly head: Rope;
  readonly sender: string | undefined;
}

/** RFC 5321 §4.4: what final delivery put in front is not sent on, and what rules see is what they saw at delivery. */
async function part(stored: Message): Promise<Parted> {
  const [first] = stored.headers;
  if (first?.name.toLowerCase() !== 'return-path')
    return { message: stored, head: bufferRope(Buffer.alloc(0)), sender: undefined };
  const sender = /<([^<>]*)>/.exec(first.value)?.[1];
  const message = await readMessage(sliceRope(stored.rope, first.raw.length));
  return { message, head: bufferRope(first.raw), sender };
}

export class StoredMessage {
  readonly message: Message;
  /** From Return-Path; undefined where there is none. */
  readonly sender: string | undefined;
  readonly flags: readonly string[];
  readonly port: MailboxPort;
  /** In words. */
  readonly done: string[] = [];
  readonly #place: StoredPlace;
  readonly #record: MessageRecord;
  readonly #head: Rope;
  readonly #options: StoredOptions;
  #stays = false;
  #wanted: readonly string[] | undefined;

  private constructor(
    place: StoredPlace,
    record: MessageRecord,
    { message, head, sender }: Parted,
    options: StoredOptions,
  ) {
    this.#place = place;
    this.#record = record;
    this.#head = head;
    this.#options = options;
    this.message = message;
    this.sender = sender;
    this.flags = flagNames(record);
    const names = mailboxNames(place.user, async work => work(place.mail).catch(rethrow), place.metadata);
    this.port = { ...names, store: request => this.#store(request, names).catch(rethrow) };
  }

  /** Undefined where it is gone meanwhile. */
  static async open(place: StoredPlace, uid: number, options: StoredOptions): Promise<StoredMessage | undefined> {
    const record = findRecord(place.mailbox.records, uid);
    const stored = record && (await place.mailbox.message(record.uid));
    return stored && new StoredMessage(place, record, await part(stored), options);
  }

  /** The message is kept whatever the scripts decided. */
  stay(): void {
    this.#stays = true;
  }

  async #store(request: StoreRequest, names: Pick<Required<MailboxPort>, 'exists' | 'create'>): Promise<void> {
    const { mail, mailbox } = this.#place;
    const name = canonical(request.mailbox);
    const edited = request.message !== this.message.rope;
    if (name === mailbox.name && request.fcc !== true && !(edited && this.#options.replaceEdited)) {
      this.#stays = true;
      this.#wanted = request.flags;
      return;
    }
    this.done.push(name === mailbox.name ? 'edited' : `fileinto ${name}`);
    if (this.#options.dryRun) return;
    if (request.create && !(await names.exists(name)))
      await names.create(name, request.specialUse === undefined ? {} : { specialUse: request.specialUse });
    const target = await mail.open(name);
    try {
      const whole = request.fcc === true ? request.message : concatRopes(this.#head, request.message);
      const { internalDate } = this.#record;
      await target.append(whole, whole.size, { ...storedFlags(request.flags), internalDate });
    } finally {
      await target.close();
    }
  }

  /** When all actions have been carried out without a failure. */
  async settle(): Promise<void> {
    const { mailbox } = this.#place;
    const { uid } = this.#record;
    const change = async (mode: 'add' | 'remove', names: readonly string[]): Promise<void> => {
      if (names.length === 0) return;
      this.done.push(`${mode === 'add' ? 'flags' : 'without flags'} ${names.join(' ')}`);
      if (!this.#options.dryRun) await mailbox.store([uid], { mode, ...storedFlags(names) });
    };
    if (this.#stays) {
      const wanted = this.#wanted ?? this.flags;
      await change('remove', without(this.flags, wanted));
      await change('add', without(wanted, this.flags));
      return;
    }
    if (this.#options.expunge) {
      this.done.push('removed');
      if (this.#options.dryRun) return;
      await mailbox.store([uid], { mode: 'add', flags: flagBits['\\Deleted'], keywords: [] });
      await mailbox.expunge([uid]);
    } else await change('add', without(['\\Deleted'], this.flags));
  }
}

function without(names: readonly string[], gone: readonly string[]): readonly string[] {
  const lower = new Set(gone.map(name => name.toLowerCase()));
  return names.filter(name => !lower.has(name.toLowerCase()));
}

const rethrow = (error: unknown): never => {
  throw hostError(error);
};
