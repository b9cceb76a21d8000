// Replies of a server, read from whatever pieces the network delivers. RFC 5321 §4.2. Bounded: a server that never ends
// a line or a reply is cut off (invariant I7).

export interface ServerReply {
  /** 200 to 599. */
  readonly code: number;
  /** RFC 2034, where the server gave one of the code's class. */
  readonly enhanced?: string;
  /** Lines without their codes. */
  readonly lines: readonly string[];
}

export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

const maxLine = 4096;
const maxReply = 128 * 1024;

/** The reply in one line, as it came. */
export const replyText = (reply: ServerReply): string =>
  `${reply.code} ${reply.enhanced === undefined ? '' : `${reply.enhanced} `}${reply.lines.join(' ')}`.trim();

export interface ReplyReader {
  /** Complete replies that end in this piece. Throws `ProtocolError`. */
  push(chunk: Buffer): readonly ServerReply[];
}

export function createReplyReader(): ReplyReader {
  let rest = '';
  let lines: string[] = [];
  let size = 0;

  function takeLine(line: string): ServerReply | undefined {
    const match = /^([2-5]\d\d)(?:([ -])(.*))?$/s.exec(line);
    if (!match) throw new ProtocolError(`Not a reply: ${JSON.stringify(line.slice(0, 80))}`);
    const [, digits = '', mark = ' ', text = ''] = match;
    lines.push(text);
    size += line.length;
    if (size > maxReply) throw new ProtocolError('Reply is too long');
    if (mark === '-') return undefined;
    // RFC 5321 §4.2.1: all lines carry the same code; the last one counts where they do not.
    const reply = finish(Number(digits), lines);
    lines = [];
    size = 0;
    return reply;
  }

  return {
    push(chunk) {
      // Bytes as they are: a reply is ASCII, or UTF-8 after SMTPUTF8 (RFC 6531 §3.7.4); it is decoded when whole.
      rest += chunk.toString('latin1');
      const replies: ServerReply[] = [];
      let start = 0;
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n', start)) {
        const line = rest.slice(start, rest[end - 1] === '\r' ? end - 1 : end);
        start = end + 1;
        if (line.length > maxLine) throw new ProtocolError('Reply line is too long');
        const reply = takeLine(line);
        if (reply) replies.push(reply);
      }
      rest = rest.slice(start);
      if (rest.length > maxLine) throw new ProtocolError('Reply line is too long');
      return replies;
    },
  };
}

function finish(code: number, raw: readonly string[]): ServerReply {
  const lines = raw.map(line => Buffer.from(line, 'latin1').toString('utf8'));
  const match = /^([245]\.\d{1,3}\.\d{1,3})(?: |$)/.exec(lines[0] ?? '');
  const enhanced = match?.[1];
  if (enhanced === undefined || enhanced[0] !== String(code)[0]) return { code, lines };
  const bare = lines.map(line => (line.startsWith(enhanced) ? line.slice(enhanced.length).trimStart() : line));
  return { code, enhanced, lines: bare };
}
