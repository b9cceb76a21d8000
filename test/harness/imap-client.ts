// A small IMAP client for tests, on the server's own grammar: sends a command, collects the untagged answers as values.
import type { Duplex } from 'node:stream';
import { Framer } from '../../core/imap/wire/framer.ts';
import { Lexer } from '../../core/imap/wire/lexer.ts';
import type { Segment } from '../../core/imap/wire/types.ts';

/** Atoms and strings are both text (one character per octet); `null` is NIL. */
export type ImapValue = string | null | readonly ImapValue[];

export interface ImapAnswer {
  /** `OK …`, without the tag. */
  readonly status: string;
  /** Each untagged response, its words as values. */
  readonly untagged: readonly (readonly ImapValue[])[];
}

export class ImapClient {
  private readonly stream: Duplex;
  private readonly framer = new Framer();
  private segments: Segment[] = [];
  private literal: { left: number; readonly chunks: Buffer[] } | undefined;
  private readonly lines: (readonly Segment[])[] = [];
  private wake: (() => void) | undefined;
  private closed = false;
  private count = 0;

  constructor(stream: Duplex) {
    this.stream = stream;
    stream.on('data', (chunk: Buffer) => {
      this.framer.push(chunk);
      this.frame();
      this.wake?.();
    });
    stream.on('error', () => undefined);
    stream.on('close', () => {
      this.closed = true;
      this.wake?.();
    });
  }

  private frame(): void {
    for (;;) {
      if (this.literal) {
        for (let bytes = this.framer.some(this.literal.left); bytes; bytes = this.framer.some(this.literal.left)) {
          this.literal.left -= bytes.length;
          this.literal.chunks.push(Buffer.from(bytes));
        }
        if (this.literal.left > 0) return;
        this.segments.push({ kind: 'literal', bytes: Buffer.concat(this.literal.chunks), binary: true });
        this.literal = undefined;
      }
      const line = this.framer.line(100_000_000);
      if (!line) return;
      if (line.kind === 'too-long') throw new Error('Line too long');
      this.segments.push({ kind: 'text', bytes: Buffer.from(line.bytes) });
      if (line.literal) this.literal = { left: line.literal.size, chunks: [] };
      else {
        this.lines.push(this.segments);
        this.segments = [];
      }
    }
  }

  private async next(): Promise<readonly Segment[]> {
    for (;;) {
      const line = this.lines.shift();
      if (line) return line;
      if (this.closed) throw new Error('Connection closed');
      await new Promise<void>(resolve => {
        this.wake = resolve;
      });
      this.wake = undefined;
    }
  }

  /** The next response line as text, for greetings and continuations. */
  async line(): Promise<string> {
    return textOf(await this.next());
  }

  /** Sends a command, literals included as `{n+}`, and waits for its tagged reply. Throws unless that is OK. */
  async ok(text: string, ...literals: readonly Buffer[]): Promise<ImapAnswer> {
    const answer = await this.command(text, ...literals);
    if (!answer.status.startsWith('OK')) throw new Error(`${text.slice(0, 60)}: ${answer.status}`);
    return answer;
  }

  async command(text: string, ...literals: readonly Buffer[]): Promise<ImapAnswer> {
    this.count += 1;
    const tag = `t${this.count}`;
    const parts: Buffer[] = [];
    text.split('{}').forEach((piece, index) => {
      if (index > 0) {
        const literal = literals[index - 1] ?? Buffer.alloc(0);
        parts.push(Buffer.from(`{${literal.length}+}\r\n`), literal);
      }
      parts.push(Buffer.from(piece, 'latin1'));
    });
    this.stream.write(Buffer.concat([Buffer.from(`${tag} `), ...parts, Buffer.from('\r\n')]));
    const untagged: (readonly ImapValue[])[] = [];
    for (;;) {
      const line = await this.next();
      const head = textOf(line);
      if (head.startsWith(`${tag} `)) return { status: head.slice(tag.length + 1), untagged };
      if (head.startsWith('* ')) untagged.push(readValues(line));
    }
  }

  close(): void {
    this.stream.destroy();
  }
}

const textOf = (segments: readonly Segment[]): string => {
  const first = segments[0];
  return first?.kind === 'text' ? first.bytes.toString('latin1') : '';
};

function readValues(segments: readonly Segment[]): readonly ImapValue[] {
  const lexer = new Lexer(segments);
  lexer.char('*');
  lexer.sp();
  // Status responses are text for people.
  if (/^\* (?:OK|NO|BAD|BYE) /.test(textOf(segments))) return [textOf(segments).slice(2)];
  const values: ImapValue[] = [];
  do values.push(readValue(lexer));
  while (lexer.trySp());
  return values;
}

function readValue(lexer: Lexer): ImapValue {
  if (lexer.peek() === '(') return readList(lexer);
  if (lexer.peek() === '\\') return lexer.tryChar('\\') && lexer.tryChar('*') ? '\\*' : `\\${lexer.atom()}`;
  if (lexer.peek() === '"' || lexer.peek() === '') return lexer.string().toString('latin1');
  // `BODY[HEADER.FIELDS (A B)]<0>` is one name, though it holds spaces.
  if (/^BODY(?:\.PEEK)?$/.test(lexer.peekKeyword())) {
    const name = lexer.attributeName();
    if (lexer.peek() !== '[') return name;
    const { part, of, fields } = lexer.section();
    const origin = lexer.tryChar('<') ? `<${lexer.number()}>` : '';
    if (origin) lexer.char('>');
    return `${name}[${[...part, of === 'all' ? [] : of.toUpperCase()].flat().join('.')}${fields.length > 0 ? ` ${fields.join(' ')}` : ''}]${origin}`;
  }
  const word = lexer.astring().toString('latin1');
  return word === 'NIL' ? null : word;
}

/** Lists without spaces between them, such as the addresses of an envelope, are values of their own. */
function readList(lexer: Lexer): readonly ImapValue[] {
  lexer.char('(');
  const values: ImapValue[] = [];
  while (!lexer.tryChar(')')) {
    values.push(readValue(lexer));
    lexer.tryChar(' ');
  }
  return values;
}

/** The data items of the FETCH responses in `answer`, by sequence number. */
export function fetched(answer: ImapAnswer): ReadonlyMap<number, ReadonlyMap<string, ImapValue>> {
  const messages = new Map<number, Map<string, ImapValue>>();
  for (const [number, kind, items] of answer.untagged) {
    if (kind !== 'FETCH' || !Array.isArray(items)) continue;
    const found = messages.get(Number(number)) ?? new Map<string, ImapValue>();
    for (let i = 0; i + 1 < items.length; i += 2) found.set(String(items[i]), items[i + 1] as ImapValue);
    messages.set(Number(number), found);
  }
  return messages;
}
