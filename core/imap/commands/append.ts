import type { Rope } from '../../mail/rope.ts';
import { flagBits, type Mailbox, MailboxError, type Uid } from '../../mailstore/mailbox.ts';
import { type Authenticated, command, type LiteralRole } from '../command.ts';
import { type FlagSet, parseFlagList } from '../flags.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { type Ending, no, ok } from '../response.ts';
import { tellArrived } from '../rule-events.ts';
import { encodeNumberSet } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import { withTarget } from './copy.ts';

interface Appended {
  readonly source: Rope;
  readonly flags: FlagSet;
  readonly internalDate: number | undefined;
}

/** RFC 3501 §6.3.11, several messages at once as in RFC 3502, APPENDUID of RFC 4315 §3. */
export const append = command({
  name: 'APPEND',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const mailbox = parseMailbox(lexer);
    const messages: Appended[] = [];
    do messages.push({ ...parseOptions(lexer), source: lexer.message().source });
    while (!lexer.atEnd());
    return { mailbox, messages };
  },
  async run(at, { mailbox, messages }) {
    if (messages.some(message => message.source.size === 0)) return no('Message is empty', 'CANNOT');
    return withTarget(at, mailbox, async target => {
      const uids = await appendAll(target, messages);
      await tellArrived(at, 'APPEND', target, uids);
      return ok('Append completed', `APPENDUID ${target.uidValidity} ${encodeNumberSet(uids)}`);
    });
  },
  announce,
});

function parseOptions(lexer: Lexer): Omit<Appended, 'source'> {
  lexer.sp();
  let flags: FlagSet = { flags: 0, keywords: [] };
  let internalDate: number | undefined;
  if (lexer.peek() === '(') {
    flags = parseFlagList(lexer);
    lexer.sp();
  }
  if (lexer.peek() === '"') {
    internalDate = lexer.dateTime();
    lexer.sp();
  }
  return { flags, internalDate };
}

/** Before the message is sent: is there such a mailbox, and is there room (RFC 7889 §4 and RFC 2683 §3.4.9)? */
async function announce(
  at: Authenticated,
  lexer: Lexer,
  literal: { readonly size: number },
): Promise<LiteralRole | Ending> {
  lexer.sp();
  if (lexer.atEnd()) return 'word';
  const mailbox = parseMailbox(lexer);
  let announced = literal.size;
  for (parseOptions(lexer); !lexer.atEnd(); parseOptions(lexer)) announced += lexer.message().source.size;
  const quota = await at.mail.quota();
  if (quota.limitBytes !== undefined && quota.usedBytes + announced > quota.limitBytes)
    return no('Quota exceeded', 'OVERQUOTA');
  try {
    await at.mail.status(mailbox);
  } catch (error) {
    if (error instanceof MailboxError && error.code === 'nonexistent') return no('Mailbox does not exist', 'TRYCREATE');
    throw error;
  }
  return 'message';
}

async function appendAll(target: Mailbox, messages: readonly Appended[]): Promise<readonly Uid[]> {
  const uids: Uid[] = [];
  try {
    for (const { source, flags, internalDate } of messages)
      uids.push(
        await target.append(source, source.size, { ...flags, ...(internalDate !== undefined && { internalDate }) }),
      );
  } catch (error) {
    // RFC 3502 §6.3.11: all or none.
    if (uids.length > 0) {
      await target.store(uids, { mode: 'add', flags: flagBits['\\Deleted'], keywords: [] });
      await target.expunge(uids);
    }
    throw error;
  }
  return uids;
}
