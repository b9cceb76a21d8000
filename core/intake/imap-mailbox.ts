// RFC 3501 from the client's side, as far as fetching needs it: nothing is changed but what is removed, and \Seen is left
// as it was (BODY.PEEK).

import { WireClient, WireError } from '../lib/wire-client.ts';
import { loginError, type RemoteAccount, type RemoteMailbox, type RemoteMessage, xoauth2 } from './remote-mailbox.ts';

const maxLine = 1_048_576;

/** A string of any content: RFC 3501 §4.3. What cannot be quoted is not a user name or mailbox that exists. */
function quoted(text: string): string {
  if (/[\r\n\0]/.test(text)) throw new WireError('A name or password with a line end cannot be sent');
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

class ImapClient {
  readonly wire: WireClient;
  #count = 0;

  constructor(wire: WireClient) {
    this.wire = wire;
  }

  begin(command: string): string {
    const tag = `P${++this.#count}`;
    this.wire.write(`${tag} ${command}\r\n`);
    return tag;
  }

  /** Reads to the end of the command; untagged lines go to `take`, which may read a literal that follows. */
  async finish(tag: string, take: (line: string) => Promise<void> | void = () => undefined): Promise<string> {
    for (;;) {
      const line = (await this.wire.line(maxLine)).toString('latin1');
      if (line.startsWith(`${tag} `)) {
        const text = line.slice(tag.length + 1);
        if (/^OK\b/i.test(text)) return text;
        throw new WireError(text);
      }
      if (/^\* BYE\b/i.test(line)) throw new WireError(`The server hangs up: ${line.slice(6)}`);
      await take(line);
    }
  }

  async run(command: string, take?: (line: string) => Promise<void> | void): Promise<string> {
    try {
      return await this.finish(this.begin(command), take);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      throw new WireError(`${command.split(' ', 2).join(' ')}: ${error.message}`, { cause: error });
    }
  }

  async capabilities(): Promise<ReadonlySet<string>> {
    let words: readonly string[] = [];
    await this.run('CAPABILITY', line => {
      if (/^\* CAPABILITY /i.test(line)) words = line.slice(13).toUpperCase().split(' ');
    });
    return new Set(words);
  }
}

async function logIn(client: ImapClient, account: RemoteAccount): Promise<void> {
  try {
    if (!account.token) {
      await client.run(`LOGIN ${quoted(account.username)} ${quoted(account.password)}`);
      return;
    }
    const tag = client.begin('AUTHENTICATE XOAUTH2');
    await client.finish(tag, line => {
      if (line.startsWith('+')) client.wire.write(`${line.length > 2 ? '' : xoauth2(account)}\r\n`);
    });
  } catch (error) {
    if (!(error instanceof WireError) || /closed|silent/.test(error.message)) throw error;
    throw loginError(error.message.replace(/^LOGIN [^:]*: /, ''));
  }
}

/** UIDs of a mailbox by a search, as numbers. */
async function search(client: ImapClient, what: string): Promise<readonly number[]> {
  const found: number[] = [];
  await client.run(`UID SEARCH ${what}`, line => {
    if (/^\* SEARCH\b/i.test(line)) found.push(...line.slice(8).trim().split(' ').filter(Boolean).map(Number));
  });
  return found;
}

const ranges = (uids: readonly number[]): readonly string[] => {
  const chunks: string[] = [];
  for (let at = 0; at < uids.length; at += 200) chunks.push(uids.slice(at, at + 200).join(','));
  return chunks;
};

export async function openImap(account: RemoteAccount): Promise<RemoteMailbox> {
  const wire = await WireClient.open(account);
  const client = new ImapClient(wire);
  let validity = '';
  let expungesByUid = false;
  try {
    const greeting = (await wire.line()).toString('latin1');
    if (!/^\* OK\b/i.test(greeting)) throw new WireError(`Greeting: ${greeting}`);
    if (account.startTls) {
      await client.run('STARTTLS');
      await wire.startTls();
    }
    await logIn(client, account);
    expungesByUid = (await client.capabilities()).has('UIDPLUS');
    await client.run(`SELECT ${quoted(account.mailbox)}`, line => {
      validity = /^\* OK \[UIDVALIDITY (\d+)\]/i.exec(line)?.[1] ?? validity;
    });
    if (validity === '') throw new WireError('The server gives no UIDVALIDITY');
  } catch (error) {
    wire.close();
    throw error;
  }
  const uidOf = ({ uid }: RemoteMessage): string => uid.slice(validity.length + 1);

  return {
    async list() {
      const uids = await search(client, 'ALL');
      // What we marked and a crash kept us from removing is listed too.
      const marked = new Set(await search(client, 'DELETED'));
      const sizes = new Map<string, number>();
      for (const range of ranges(uids))
        await client.run(`UID FETCH ${range} (UID RFC822.SIZE)`, line => {
          const uid = /\bUID (\d+)/i.exec(line)?.[1];
          const size = /\bRFC822\.SIZE (\d+)/i.exec(line)?.[1];
          if (uid !== undefined && size !== undefined) sizes.set(uid, Number(size));
        });
      return uids.map(uid => ({
        uid: `${validity}.${uid}`,
        size: sizes.get(String(uid)) ?? 0,
        ...(marked.has(uid) ? { deleted: true as const } : {}),
      }));
    },
    async *read(message) {
      const uid = uidOf(message);
      const tag = client.begin(`UID FETCH ${uid} (UID BODY.PEEK[])`);
      let found = false;
      for (;;) {
        const line = (await wire.line(maxLine)).toString('latin1');
        const literal = /^\* \d+ FETCH .*\bBODY\[\] \{(\d+)\}$/i.exec(line)?.[1];
        if (literal !== undefined) {
          found = true;
          yield* wire.bytes(Number(literal));
          // What follows the literal: the rest of the list.
          await wire.line(maxLine);
        } else if (line.startsWith(`${tag} `)) {
          if (!/^OK\b/i.test(line.slice(tag.length + 1))) throw new WireError(`UID FETCH: ${line}`);
          break;
        }
      }
      if (!found) throw new WireError(`Message ${uid} is gone`);
    },
    async remove(message) {
      await client.run(`UID STORE ${uidOf(message)} +FLAGS.SILENT (\\Deleted)`);
      // RFC 4315 §2.1. Without it, what others marked goes too; that is what the mark means.
      await client.run(expungesByUid ? `UID EXPUNGE ${uidOf(message)}` : 'EXPUNGE');
    },
    async quit() {
      await client
        .run('LOGOUT', () => undefined)
        .catch((error: unknown) => {
          // The BYE that LOGOUT is answered with, and nothing to be done about the rest: all is removed already.
          if (!(error instanceof WireError)) throw error;
        });
    },
    close: () => wire.close(),
  };
}
