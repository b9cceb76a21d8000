// Cuts the byte stream into lines and literals, whatever the chunks. It holds at most one line (bounded) and hands
// literals on as they come, so that its owner decides what is kept. It answers nothing: the owner asks it for the next
// thing and gets `undefined` where bytes are missing.
//
// A line ends with CRLF; a bare LF is taken too, since telnet users and old clients send it and nothing can be smuggled
// through a protocol with one command stream. A bare CR stays in the line, where the lexer refuses it.
import type { LiteralHead } from './types.ts';

export type Line =
  /** Without line end; `literal` is what the line announced, and then the announcement is not part of `bytes`. */
  | { readonly kind: 'line'; readonly bytes: Buffer; readonly literal: LiteralHead | undefined }
  /** Longer than allowed. `head`: its first bytes, enough for a tag. The rest is dropped up to the line end. */
  | { readonly kind: 'too-long'; readonly head: Buffer };

const LF = 10;
const CR = 13;
const keptOfLongLine = 256;
const empty: Buffer = Buffer.alloc(0);

export class Framer {
  private chunks: Buffer[] = [];
  private length = 0;
  /** Bytes of the front that hold no LF. */
  private scanned = 0;
  private dropping: Buffer | undefined;

  /** Bytes held and not yet taken. */
  get pending(): number {
    return this.length;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.chunks.push(chunk);
    this.length += chunk.length;
  }

  /** Forgets everything held: what came in plain text before a TLS handshake (RFC 3501 §6.2.1). */
  discard(): void {
    this.chunks = [];
    this.length = 0;
    this.scanned = 0;
    this.dropping = undefined;
  }

  line(maxBytes: number): Line | undefined {
    const end = this.findLineEnd();
    if (end === undefined) {
      if (this.length > maxBytes || this.dropping) {
        this.dropping ??= Buffer.from(this.peek(keptOfLongLine));
        this.take(this.length);
      }
      return undefined;
    }
    if (this.dropping) {
      const head = this.dropping;
      this.dropping = undefined;
      this.take(end + 1);
      return { kind: 'too-long', head };
    }
    if (end > maxBytes) {
      const head = Buffer.from(this.peek(keptOfLongLine));
      this.take(end + 1);
      return { kind: 'too-long', head };
    }
    const whole = this.take(end + 1);
    const cut = whole[end - 1] === CR ? end - 1 : end;
    return announced(whole.subarray(0, cut));
  }

  /** Up to `maxBytes` of what is there; undefined when nothing is. For the bytes of a literal. */
  some(maxBytes: number): Buffer | undefined {
    const first = this.chunks[0];
    if (first === undefined || maxBytes <= 0) return undefined;
    return this.take(Math.min(first.length, maxBytes));
  }

  private findLineEnd(): number | undefined {
    let base = 0;
    for (const chunk of this.chunks) {
      const from = Math.max(0, this.scanned - base);
      if (from < chunk.length) {
        const at = chunk.indexOf(LF, from);
        if (at >= 0) return base + at;
      }
      base += chunk.length;
    }
    this.scanned = this.length;
    return undefined;
  }

  private peek(count: number): Buffer {
    const first = this.chunks[0] ?? empty;
    return first.length >= count || this.chunks.length < 2
      ? first.subarray(0, count)
      : Buffer.concat(this.chunks).subarray(0, count);
  }

  private take(count: number): Buffer {
    this.scanned = 0;
    this.length -= count;
    const first = this.chunks[0];
    if (first && count < first.length) {
      this.chunks[0] = first.subarray(count);
      return first.subarray(0, count);
    }
    const taken: Buffer[] = [];
    let left = count;
    let whole = 0;
    while (left > 0) {
      const chunk = this.chunks[whole];
      if (!chunk) break;
      if (chunk.length > left) {
        taken.push(chunk.subarray(0, left));
        this.chunks[whole] = chunk.subarray(left);
        left = 0;
      } else {
        taken.push(chunk);
        left -= chunk.length;
        whole += 1;
      }
    }
    this.chunks.splice(0, whole);
    return taken.length === 1 ? (taken[0] ?? empty) : Buffer.concat(taken);
  }
}

const announcement = /(?:^|[ (])(~?)\{(\d{1,15})(\+?)\}$/;

function announced(line: Buffer): Line {
  if (line[line.length - 1] !== 0x7d) return { kind: 'line', bytes: line, literal: undefined };
  const tail = line.subarray(Math.max(0, line.length - 24)).toString('latin1');
  const match = announcement.exec(tail);
  if (!match) return { kind: 'line', bytes: line, literal: undefined };
  const [whole, tilde = '', digits = '', plus = ''] = match;
  const lead = whole.startsWith('~') || whole.startsWith('{') ? 0 : 1;
  return {
    kind: 'line',
    bytes: line.subarray(0, line.length - whole.length + lead),
    literal: { size: Number(digits), sync: plus === '', binary: tilde !== '' },
  };
}
