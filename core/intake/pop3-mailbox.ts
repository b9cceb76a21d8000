// RFC 1939 from the client's side, with UIDL, which a server must have: without it nobody can tell what is new.

import { WireClient, WireError } from '../lib/wire-client.ts';
import { loginError, type RemoteAccount, type RemoteMailbox, type RemoteMessage, xoauth2 } from './remote-mailbox.ts';

const crlf = Buffer.from('\r\n');
const dot = 0x2e;
const batchBytes = 65_536;
/** A line of a message may be far longer than RFC 5322 allows. */
const maxMessageLine = 64 * 1_048_576;

async function answer(wire: WireClient): Promise<{ readonly ok: boolean; readonly text: string }> {
  const line = (await wire.line()).toString('utf8');
  return { ok: /^\+OK\b/i.test(line), text: line.replace(/^(?:\+OK|-ERR) ?/i, '') };
}

async function command(wire: WireClient, line: string): Promise<string> {
  wire.write(`${line}\r\n`);
  const { ok, text } = await answer(wire);
  if (!ok) throw new WireError(`${line.split(' ', 1)[0]} refused: ${text}`);
  return text;
}

async function* lines(wire: WireClient, maxBytes?: number): AsyncGenerator<Buffer> {
  for (;;) {
    const line = await wire.line(maxBytes);
    if (line.length === 1 && line[0] === dot) return;
    // RFC 1939 §3: byte-stuffing
    yield line[0] === dot ? line.subarray(1) : line;
  }
}

async function logIn(wire: WireClient, account: RemoteAccount): Promise<void> {
  const say = async (line: string): Promise<void> => {
    wire.write(`${line}\r\n`);
    const { ok, text } = await answer(wire);
    if (!ok) throw loginError(text);
  };
  if (account.token) {
    wire.write('AUTH XOAUTH2\r\n');
    const first = (await wire.line()).toString('utf8');
    if (!first.startsWith('+')) throw loginError(first);
    return say(xoauth2(account));
  }
  await say(`USER ${account.username}`);
  await say(`PASS ${account.password}`);
}

export async function openPop3(account: RemoteAccount): Promise<RemoteMailbox> {
  const wire = await WireClient.open(account);
  try {
    const greeting = await answer(wire);
    if (!greeting.ok) throw new WireError(`Greeting: ${greeting.text}`);
    if (account.startTls) {
      // RFC 2595 §4
      await command(wire, 'STLS');
      await wire.startTls();
    }
    await logIn(wire, account);
  } catch (error) {
    wire.close();
    throw error;
  }
  const numbers = new Map<string, number>();
  const numberOf = ({ uid }: RemoteMessage): number => {
    const number = numbers.get(uid);
    if (number === undefined) throw new WireError(`Message '${uid}' was not listed`);
    return number;
  };

  async function table(verb: 'UIDL' | 'LIST'): Promise<ReadonlyMap<number, string>> {
    await command(wire, verb);
    const found = new Map<number, string>();
    for await (const line of lines(wire)) {
      const [number = '', value = ''] = line.toString('latin1').trim().split(/\s+/);
      if (!/^\d+$/.test(number) || value === '') throw new WireError(`${verb}: unexpected line`);
      found.set(Number(number), value);
    }
    return found;
  }

  return {
    async list() {
      const uids = await table('UIDL');
      const sizes = await table('LIST');
      numbers.clear();
      for (const [number, uid] of uids) if (!numbers.has(uid)) numbers.set(uid, number);
      return [...numbers].map(([uid, number]) => ({ uid, size: Number(sizes.get(number) ?? 0) }));
    },
    async *read(message) {
      await command(wire, `RETR ${numberOf(message)}`);
      let held: Buffer[] = [];
      let size = 0;
      for await (const line of lines(wire, maxMessageLine)) {
        held.push(line, crlf);
        size += line.length + 2;
        if (size < batchBytes) continue;
        yield Buffer.concat(held);
        held = [];
        size = 0;
      }
      if (size > 0) yield Buffer.concat(held);
    },
    async remove(message) {
      await command(wire, `DELE ${numberOf(message)}`);
    },
    async quit() {
      await command(wire, 'QUIT');
    },
    close: () => wire.close(),
  };
}
