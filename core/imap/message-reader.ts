// One message during one FETCH: opened when something first needs its bytes, at most once; what was parsed is kept in
// the mailbox's index under keys that carry the version of our encoding.
import type { Message } from '../mail/message.ts';
import { emailId } from '../mailstore/email-id.ts';
import type { Mailbox, Uid } from '../mailstore/mailbox.ts';
import { describeStructure, type PartOutline, type Structure } from './body-structure.ts';
import { encodeEnvelope } from './envelope.ts';
import type { SectionSource } from './section.ts';

const envelopeKey = 'imap-envelope-1';
const structureKey = 'imap-structure-1';

export class MessageReader {
  private readonly mailbox: Mailbox;
  private readonly uid: Uid;
  private opened: Promise<Message | undefined> | undefined;

  constructor(mailbox: Mailbox, uid: Uid) {
    this.mailbox = mailbox;
    this.uid = uid;
  }

  /** All return undefined where the message is gone. */
  message(): Promise<Message | undefined> {
    this.opened ??= this.mailbox.message(this.uid);
    return this.opened;
  }

  envelope(): Promise<string | undefined> {
    return this.mailbox.cached(this.uid, envelopeKey, async message => encodeEnvelope(message.headers));
  }

  structure(): Promise<Structure | undefined> {
    return this.mailbox.cached(this.uid, structureKey, async message => describeStructure(await message.mime()));
  }

  emailId(): Promise<string | undefined> {
    return emailId(this.mailbox, this.uid);
  }

  async source(): Promise<SectionSource | undefined> {
    const message = await this.message();
    return message && { message, outline: () => this.outline(message) };
  }

  private async outline(message: Message): Promise<PartOutline> {
    const structure = await this.structure();
    return structure?.outline ?? describeStructure(await message.mime()).outline;
  }
}
