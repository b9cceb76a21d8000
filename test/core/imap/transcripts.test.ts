// The dialogues of test/transcripts/imap. Each scenario has a fresh server and Maildir; time stands still but for `T!`.
//
//   @messages 3       alice's INBOX holds so many messages: "Subject: Message n", "Body n", received on day n of 2024
//   @parts            … one message with nested parts, as UID 1
//   @tls starttls     offers STARTTLS and refuses passwords in plain text; `implicit` begins with TLS
//   @quota 1000       bytes alice may store
//   @limits {…}       as JSON, see limits.ts
//   @warns            the server may log warnings
import t from 'tap';
import { flagBits, type UserMail } from '../../../core/mailstore/mailbox.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { runTranscripts } from '../../harness/transcript.ts';
import { startImap } from './imap-fixture.ts';
import { nestedMessage, plainMessage } from './sample-messages.ts';

async function fill(mail: UserMail, options: Readonly<Record<string, string>>): Promise<void> {
  const inbox = await mail.open('INBOX');
  const add = async (text: string, day: number, flags = 0): Promise<void> => {
    const bytes = Buffer.from(text, 'latin1');
    await inbox.append({ size: bytes.length, pieces: [bytes] }, bytes.length, {
      flags,
      internalDate: Date.UTC(2024, 0, day, 12),
    });
  };
  if (options['parts'] !== undefined) await add(nestedMessage, 31);
  for (let n = 1; n <= Number(options['messages'] ?? 0); n += 1)
    await add(plainMessage(n), n, n === 1 ? flagBits['\\Seen'] : 0);
  await inbox.close();
}

export async function startForTranscript(options: Readonly<Record<string, string>>) {
  const clock = heldClock();
  const tls = options['tls'] as 'starttls' | 'implicit' | undefined;
  const fixture = await startImap({
    clock,
    withTls: tls !== undefined,
    listener: {
      ...(tls && { tls, allowPlaintextAuth: false }),
      limits: JSON.parse(options['limits'] ?? '{}') as object,
    },
    ...(options['quota'] !== undefined && { quotaBytes: Number(options['quota']) }),
  });
  const mail = await fixture.store.user('alice');
  await fill(mail, options);
  mail.release();
  return { fixture, clock, tls };
}

runTranscripts(t, 'imap', async (options, name) => {
  const { fixture, clock, tls } = await startForTranscript(options);
  return {
    port: fixture.port,
    implicitTls: tls === 'implicit',
    advance: ms => clock.move(ms),
    async close() {
      await fixture.close();
      if (fixture.complaints.length > 0 && options['warns'] === undefined)
        t.fail(`${name}: ${fixture.complaints.join('')}`);
    },
  };
});
