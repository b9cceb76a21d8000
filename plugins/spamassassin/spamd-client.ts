// A client for the protocol of spamd, SPAMC/1.5 (PROTOCOL of the SpamAssassin distribution). One connection per command,
// for spamd closes it after each. The message is streamed; nothing is trimmed or changed on the way; a reply is bounded.
import type { Socket } from 'node:net';
import { drained, type Rope, raceSignal, ropeChunks } from '../../core/plugin/index.ts';
import { parseReply, type SpamdReply, type SpamdVerdict, symbolsOf, verdictOf } from './spamd-reply.ts';

export interface SpamdContent {
  readonly message: Rope;
  /** Whose settings and learned data count. */
  readonly user?: string;
  /** Fields put before the message, such as the envelope sender, with line ends. */
  readonly preface?: string;
}

export interface Learn {
  readonly messageClass: 'spam' | 'ham';
  /** `local`: the Bayes data of the user; `remote`: networks that are reported to. */
  readonly set?: readonly ('local' | 'remote')[];
  readonly remove?: readonly ('local' | 'remote')[];
}

export interface SpamdClient {
  ping(signal: AbortSignal): Promise<void>;
  check(content: SpamdContent, signal: AbortSignal): Promise<SpamdVerdict>;
  symbols(content: SpamdContent, signal: AbortSignal): Promise<SpamdVerdict & { readonly symbols: readonly string[] }>;
  /** The report as text, for people. */
  report(content: SpamdContent, signal: AbortSignal): Promise<SpamdVerdict & { readonly report: string }>;
  /** The header section as spamd would write it. */
  headers(content: SpamdContent, signal: AbortSignal): Promise<SpamdVerdict & { readonly headers: Buffer }>;
  /** The message as spamd would write it. */
  process(content: SpamdContent, signal: AbortSignal): Promise<SpamdVerdict & { readonly message: Buffer }>;
  /** Teaches; tells which of the data changed, which is none where the message was known already. */
  tell(
    content: SpamdContent,
    learn: Learn,
    signal: AbortSignal,
  ): Promise<{ readonly didSet: readonly string[]; readonly didRemove: readonly string[] }>;
}

/** Beyond what a message itself adds: fields, symbols, a report. */
const maxReplyBytes = 512 * 1024;
const userName = /^[\x21-\x7e]{1,256}$/;

/** All that comes until the connection ends. One that is reset behind its answer is no failure: whether the answer is
 * whole is for its reader to say. */
function collect(socket: Socket, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve, reject) => {
    socket.on('data', (chunk: Buffer) => {
      size += chunk.length;
      chunks.push(chunk);
      if (size > limit) socket.destroy(new Error('Answer has no end'));
    });
    socket.once('error', error => (size > limit || size === 0 ? reject(error) : undefined));
    socket.once('close', () => resolve(Buffer.concat(chunks)));
  });
}

async function send(socket: Socket, head: string, content: SpamdContent | undefined): Promise<void> {
  socket.write(head);
  if (content?.preface) socket.write(content.preface);
  if (content)
    for await (const chunk of ropeChunks(content.message)) {
      if (socket.destroyed) return;
      if (!socket.write(chunk)) await drained(socket);
    }
  // No half-close: the length is told, and over TLS spamd would answer it with a reset.
}

/** `connect` gives a new connection that is destroyed when its signal aborts. */
export function createSpamdClient(connect: (signal: AbortSignal) => Promise<Socket>): SpamdClient {
  async function ask(
    command: string,
    content: SpamdContent | undefined,
    signal: AbortSignal,
    more: readonly string[] = [],
  ): Promise<SpamdReply> {
    const user = content?.user;
    if (user !== undefined && !userName.test(user)) throw new Error(`Cannot name the user '${user.slice(0, 60)}'`);
    const size = content ? content.message.size + (content.preface?.length ?? 0) : 0;
    const fields = [...(user === undefined ? [] : [`User: ${user}`]), ...more];
    if (content) fields.push(`Content-length: ${size}`);
    const head = [`${command} SPAMC/1.5`, ...fields, '', ''].join('\r\n');
    const socket = await connect(signal);
    try {
      const reply = collect(socket, maxReplyBytes + (command === 'PROCESS' ? size * 2 : 0));
      // It may fail while the next piece of a spooled message is still read, when nobody awaits it.
      reply.catch(() => undefined);
      // spamd may answer and hang up before it took everything: then the answer counts, not the broken sending.
      const sending = send(socket, head, content).then(
        () => reply,
        error => {
          socket.destroy();
          return reply.then(bytes => (bytes.length > 0 ? bytes : Promise.reject(error as Error)));
        },
      );
      const parsed = parseReply(await raceSignal(sending, signal));
      if (parsed.code !== 0) throw new Error(`spamd answered ${parsed.code} ${parsed.text}`);
      return parsed;
    } finally {
      socket.destroy();
    }
  }
  const listed = (reply: SpamdReply, name: string): readonly string[] =>
    (reply.fields.get(name) ?? '').split(/[,\s]+/).filter(word => word !== '');

  return {
    async ping(signal) {
      const { text } = await ask('PING', undefined, signal);
      if (text !== 'PONG') throw new Error(`Answered '${text}' to PING`);
    },
    check: async (content, signal) => verdictOf(await ask('CHECK', content, signal)),
    async symbols(content, signal) {
      const reply = await ask('SYMBOLS', content, signal);
      return { ...verdictOf(reply), symbols: symbolsOf(reply) };
    },
    async report(content, signal) {
      const reply = await ask('REPORT', content, signal);
      return { ...verdictOf(reply), report: reply.body.toString('utf8') };
    },
    async headers(content, signal) {
      const reply = await ask('HEADERS', content, signal);
      return { ...verdictOf(reply), headers: reply.body };
    },
    async process(content, signal) {
      const reply = await ask('PROCESS', content, signal);
      return { ...verdictOf(reply), message: reply.body };
    },
    async tell(content, { messageClass, set = [], remove = [] }, signal) {
      const fields = [`Message-class: ${messageClass}`];
      if (set.length > 0) fields.push(`Set: ${set.join(', ')}`);
      if (remove.length > 0) fields.push(`Remove: ${remove.join(', ')}`);
      const reply = await ask('TELL', content, signal, fields);
      return { didSet: listed(reply, 'didset'), didRemove: listed(reply, 'didremove') };
    },
  };
}
