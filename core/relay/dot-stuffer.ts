// The body of DATA: dots stuffed (RFC 5321 §4.5.2). Bare CR and bare LF never go out in DATA: a server that takes them
// for line ends would see an end of data that is none (SMTP smuggling). The gateway refuses or normalises such mail on
// arrival; here they become CRLF as a last resort. BDAT (RFC 3030) sends every byte as it is and needs none of this.

const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
const dot = Buffer.from('.');
const crlf = Buffer.from('\r\n');
const lf = Buffer.from('\n');

export interface DotStuffer {
  /** What to send for a piece of the body: parts of it, and what goes between. */
  push(chunk: Buffer): readonly Buffer[];
  /** The end of data. */
  end(): Buffer;
}

export function createDotStuffer(): DotStuffer {
  // The byte before the chunk; a message begins as if a line had just ended.
  let last = LF;
  return {
    push(chunk) {
      if (chunk.length === 0) return [];
      const out: Buffer[] = [];
      let from = 0;
      const insert = (at: number, what: Buffer): void => {
        if (at > from) out.push(chunk.subarray(from, at));
        out.push(what);
        from = Math.max(from, at);
      };
      // A CR that ended the previous chunk without its LF.
      if (last === CR && chunk[0] !== LF) out.push(lf);
      if ((last === LF || last === CR) && chunk[0] === DOT) out.push(dot);
      scanLines(chunk, last, insert, to => {
        from = to;
      });
      if (from < chunk.length) out.push(chunk.subarray(from));
      last = chunk[chunk.length - 1] ?? last;
      return out;
    },
    end() {
      if (last === CR) return Buffer.from('\n.\r\n');
      return last === LF ? Buffer.from('.\r\n') : Buffer.from('\r\n.\r\n');
    },
  };
}

/** Finds dots at line starts and bare CR or LF. `insert` puts bytes before a position, `skip` leaves out up to one. */
function scanLines(
  chunk: Buffer,
  before: number,
  insert: (at: number, what: Buffer) => void,
  skip: (to: number) => void,
): void {
  let cr = chunk.indexOf(CR);
  let at = chunk.indexOf(LF);
  while (at >= 0 || cr >= 0) {
    if (cr >= 0 && (at < 0 || cr < at - 1)) {
      // A CR that ends the chunk is judged with the next one.
      if (cr === chunk.length - 1) return;
      insert(cr, crlf);
      skip(cr + 1);
      if (chunk[cr + 1] === DOT) insert(cr + 1, dot);
      cr = chunk.indexOf(CR, cr + 1);
      continue;
    }
    if ((at > 0 ? chunk[at - 1] : before) !== CR) {
      insert(at, crlf);
      skip(at + 1);
    }
    if (chunk[at + 1] === DOT) insert(at + 1, dot);
    if (cr >= 0 && cr < at) cr = chunk.indexOf(CR, at + 1);
    at = chunk.indexOf(LF, at + 1);
  }
}
