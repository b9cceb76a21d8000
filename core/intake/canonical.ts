// RFC 5321 §2.3.8: a line ends with CRLF. What providers store has bare LF here and there.
const CR = 0x0d;
const LF = 0x0a;
const crlf = Buffer.from('\r\n');

/** Bare LF becomes CRLF, bare CR stays out: it becomes CRLF too. Chunks may be cut anywhere. */
export async function* canonicalLineEnds(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pendingCr = false;
  for await (const chunk of input) {
    const out: Buffer[] = [];
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (pendingCr) {
        // The CR before this byte is not written yet.
        pendingCr = false;
        out.push(crlf);
        start = at;
        if (byte === LF) {
          start = at + 1;
          continue;
        }
      }
      if (byte === CR) {
        if (at > start) out.push(chunk.subarray(start, at));
        pendingCr = true;
        start = at + 1;
      } else if (byte === LF) {
        if (at > start) out.push(chunk.subarray(start, at));
        out.push(crlf);
        start = at + 1;
      }
    }
    if (start < chunk.length) out.push(chunk.subarray(start));
    if (out.length > 0) yield Buffer.concat(out);
  }
  if (pendingCr) yield crlf;
}
