// Replies of spamd, SPAMD/1.x: a status line, fields, an empty line, a body. A reply that is cut short is no reply.

export interface SpamdReply {
  /** 0, or a code of sysexits.h. */
  readonly code: number;
  readonly text: string;
  /** By name in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

export interface SpamdVerdict {
  readonly isSpam: boolean;
  readonly score: number;
  readonly required: number;
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200);

/** Where the body begins; PING has no fields and no empty line in old versions. */
function splitHead(bytes: Buffer): { readonly head: string; readonly body: Buffer; readonly whole: boolean } {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return { head: bytes.toString('latin1'), body: Buffer.alloc(0), whole: false };
  return { head: bytes.toString('latin1', 0, end), body: bytes.subarray(end + 4), whole: true };
}

/** Throws where the bytes are no whole reply. */
export function parseReply(bytes: Buffer): SpamdReply {
  const { head, body, whole } = splitHead(bytes);
  const [status = '', ...lines] = head.split('\r\n');
  const [, code, text = ''] = /^SPAMD\/\d+\.\d+ (\d{1,5}) ?(.*)$/.exec(status) ?? [];
  if (code === undefined)
    throw new Error(bytes.length === 0 ? 'Closed without an answer' : `Answered '${printable(status)}'`);
  const fields = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  const length = fields.get('content-length');
  const cut = length === undefined ? !whole && Number(code) === 0 && text !== 'PONG' : Number(length) !== body.length;
  if (cut) throw new Error(`Answer is cut short after ${bytes.length} bytes`);
  return { code: Number(code), text: printable(text), fields, body };
}

/** `True ; 7.1 / 5.0` */
export function verdictOf(reply: SpamdReply): SpamdVerdict {
  const field = reply.fields.get('spam') ?? '';
  const number = '(-?\\d{1,9}(?:\\.\\d{1,9})?)';
  const match = new RegExp(`^(True|Yes|False|No)\\s*;\\s*${number}\\s*/\\s*${number}$`, 'i').exec(field);
  if (!match) throw new Error(`Answered no score: '${printable(field)}'`);
  const [, said = '', score, required] = match;
  return { isSpam: /^(?:true|yes)$/i.test(said), score: Number(score), required: Number(required) };
}

/** Names of the tests, separated by commas; lines may break anywhere between them. */
export const symbolsOf = (reply: SpamdReply): readonly string[] =>
  reply.body
    .toString('latin1')
    .split(/[,\s]+/)
    .filter(name => /^\w{1,100}$/.test(name));
