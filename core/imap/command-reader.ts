// Reads whole commands: the line, the literals it announces, the lines behind them. Before each literal it is decided
// whether we want it, so that a client with a synchronising literal hears NO before it sends 50 MB (RFC 3501 §7.5), and
// one that does not wait is read past within bounds (RFC 7888 §4).
import type { Spooled } from './append-spool.ts';
import type { Command, CommandState, ImapService, LiteralRole, States } from './command.ts';
import type { Input } from './input.ts';
import type { Output } from './output.ts';
import { bad, type Ending, no } from './response.ts';
import type { Line } from './wire/framer.ts';
import { Lexer } from './wire/lexer.ts';
import type { LiteralHead, Segment } from './wire/types.ts';
import { WireError } from './wire/wire-error.ts';

/** One command from the client. `dispose` when it is through. */
export type Framed =
  | {
      readonly kind: 'command';
      readonly tag: string;
      readonly command: Command;
      readonly lexer: Lexer;
      dispose(): Promise<void>;
    }
  /** Answered without being run. */
  | { readonly kind: 'refused'; readonly tag: string; readonly ending: Ending };

/** What the reader needs of its session, as it is now. */
export interface ReadingSession {
  readonly service: ImapService;
  readonly input: Input;
  readonly out: Output;
  readonly loggedIn: boolean;
  /** The row of the table if the command exists and the state allows it, else what to answer. */
  find(name: string): Command | Ending;
  states(): States[CommandState];
  /** What to answer to an error; throws those that end the session. */
  endingOf(error: unknown, command: Command): Ending;
}

/** The client sends more than we are ready to read past: nothing to do but to hang up. */
export class Flooded extends Error {
  override readonly name = 'Flooded';
}

const maxSwallowBytes = 256 * 1024 * 1024;

export async function readCommand(session: ReadingSession): Promise<Framed> {
  const { input } = session;
  const line = await input.line(maxLine(session));
  const begun = begin(session, line);
  if (begun.kind === 'refused') {
    await swallow(session, line);
    return begun;
  }
  const { tag, command } = begun;
  const reading: Reading = { session, command, segments: [], spooled: [], bytes: 0, messages: 0 };
  const dispose = async (): Promise<void> => {
    for (const spooled of reading.spooled) await spooled.remove();
  };
  try {
    const refusal = await readSegments(reading, line);
    if (refusal) {
      await dispose();
      return { kind: 'refused', tag, ending: refusal };
    }
  } catch (error) {
    await dispose();
    throw error;
  }
  const lexer = new Lexer(reading.segments);
  readHead(lexer);
  return { kind: 'command', tag, command, lexer, dispose };
}

interface Reading {
  readonly session: ReadingSession;
  readonly command: Command;
  readonly segments: Segment[];
  readonly spooled: Spooled[];
  bytes: number;
  messages: number;
}

const maxLine = ({ loggedIn, service: { limits } }: ReadingSession): number =>
  loggedIn ? limits.lineBytes : limits.lineBytesBeforeLogin;

/** The bytes of a line lie in the framer's chunk: a copy keeps that from being held. */
const copyOf = (bytes: Buffer): Buffer => (bytes.buffer.byteLength > bytes.length + 65536 ? Buffer.from(bytes) : bytes);

function begin(
  session: ReadingSession,
  line: Line,
): { readonly kind: 'begun'; readonly tag: string; readonly command: Command } | Extract<Framed, { kind: 'refused' }> {
  const lexer = new Lexer([{ kind: 'text', bytes: line.kind === 'line' ? line.bytes : line.head }]);
  let tag = '*';
  try {
    tag = lexer.tag();
    lexer.sp();
    if (line.kind === 'too-long') return { kind: 'refused', tag, ending: bad('Line too long', 'LIMIT') };
    const found = session.find(readName(lexer));
    return 'status' in found ? { kind: 'refused', tag, ending: found } : { kind: 'begun', tag, command: found };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return { kind: 'refused', tag, ending: bad(tag === '*' ? 'Missing or invalid tag' : 'Missing command') };
  }
}

function readHead(lexer: Lexer): void {
  lexer.tag();
  lexer.sp();
  readName(lexer);
}

function readName(lexer: Lexer): string {
  const name = lexer.keyword();
  if (name !== 'UID') return name;
  lexer.sp();
  return `UID ${lexer.keyword()}`;
}

async function readSegments(reading: Reading, first: Line): Promise<Ending | undefined> {
  const { session } = reading;
  for (let line = first; ; line = await session.input.line(maxLine(session))) {
    if (line.kind === 'too-long') return bad('Line too long', 'LIMIT');
    reading.bytes += line.bytes.length;
    reading.segments.push({ kind: 'text', bytes: copyOf(line.bytes) });
    if (!line.literal) return undefined;
    const refusal = await readLiteral(reading, line.literal);
    if (refusal) {
      await swallow(session, line);
      return refusal;
    }
  }
}

/** Takes the literal, or returns why not and leaves its bytes unread. */
async function readLiteral(reading: Reading, literal: LiteralHead): Promise<Ending | undefined> {
  const { session } = reading;
  const { limits } = session.service;
  if (!literal.sync && limits.literals === 'LITERAL-' && literal.size > 4096)
    return bad('Non-synchronizing literal too large');
  const role = await roleOf(reading, literal);
  if (typeof role !== 'string') return role;
  if (role === 'message') {
    if (literal.size > limits.appendBytes) return no('Message too large', 'TOOBIG');
    reading.messages += 1;
    if (reading.messages > limits.messagesPerAppend) return no('Too many messages', 'LIMIT');
  } else {
    reading.bytes += literal.size;
    if (literal.size > (session.loggedIn ? limits.wordBytes : limits.wordBytesBeforeLogin))
      return bad('Literal too large', 'TOOBIG');
  }
  if (reading.bytes > limits.commandBytes) return bad('Command too large', 'LIMIT');
  if (literal.sync) {
    session.out.write('+ OK\r\n');
    session.out.flush();
  }
  await takeLiteral(reading, literal, role);
  return undefined;
}

async function roleOf(reading: Reading, literal: LiteralHead): Promise<LiteralRole | Ending> {
  if (!reading.command.announce) return 'word';
  const lexer = new Lexer(reading.segments);
  readHead(lexer);
  try {
    return await reading.command.announce(reading.session.states(), lexer, literal);
  } catch (error) {
    return reading.session.endingOf(error, reading.command);
  }
}

async function takeLiteral(reading: Reading, literal: LiteralHead, role: LiteralRole): Promise<void> {
  const { input, service } = reading.session;
  if (role === 'message') {
    const spooled = await service.spool.take(literal.size, left => input.some(left));
    reading.spooled.push(spooled);
    reading.segments.push({ kind: 'spooled', rope: spooled.rope, binary: literal.binary });
    return;
  }
  const bytes = Buffer.alloc(literal.size);
  for (let at = 0; at < literal.size; ) at += (await input.some(literal.size - at)).copy(bytes, at);
  reading.segments.push({ kind: 'literal', bytes, binary: literal.binary });
}

/** Reads past what a refused command still sends: literals that did not wait for us, and the lines behind them. */
async function swallow({ input, service }: ReadingSession, line: Line): Promise<void> {
  let swallowed = 0;
  for (let next = line; next.kind === 'line' && next.literal && !next.literal.sync; ) {
    swallowed += next.literal.size;
    if (swallowed > maxSwallowBytes) throw new Flooded('Client sends more than can be read past');
    for (let left = next.literal.size; left > 0; ) left -= (await input.some(left)).length;
    next = await input.line(service.limits.lineBytes);
  }
}
