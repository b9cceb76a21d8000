// Content-Transfer-Encoding outwards: RFC 2045 §6. `body.ts` reads, this writes.

const maxLine = 76;
const CR = 0x0d;
const LF = 0x0a;

const hex = (byte: number): string => `=${byte.toString(16).toUpperCase().padStart(2, '0')}`;
const isPlain = (byte: number): boolean => byte === 0x09 || (byte >= 0x20 && byte <= 0x7e && byte !== 0x3d);

/** RFC 2045 §6.7, for text: line ends (CRLF or LF) stay line ends and become CRLF. */
export function encodeQuotedPrintable(bytes: Buffer): Buffer {
  const lines: string[] = [];
  let line = '';
  const put = (text: string): void => {
    // Room for the `=` of a soft line break.
    if (line.length + text.length > maxLine - 1) {
      lines.push(`${line}=`);
      line = '';
    }
    line += text;
  };
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] as number;
    if (byte === LF || (byte === CR && bytes[at + 1] === LF)) {
      if (byte === CR) at++;
      lines.push(line);
      line = '';
      continue;
    }
    const next = bytes[at + 1];
    const endsLine = next === undefined || next === LF || (next === CR && bytes[at + 2] === LF);
    const isBlank = byte === 0x20 || byte === 0x09;
    put(isPlain(byte) && !(isBlank && endsLine) ? String.fromCharCode(byte) : hex(byte));
  }
  lines.push(line);
  return Buffer.from(lines.join('\r\n'), 'latin1');
}

/** RFC 2045 §6.8, without a line end behind the last line. */
export const encodeBase64 = (bytes: Buffer): Buffer =>
  Buffer.from(bytes.toString('base64').replace(/.{76}(?=.)/g, '$&\r\n'), 'latin1');

/** Decoded bytes as they travel under this encoding; `7bit`, `8bit` and `binary` change nothing. */
export function encodeTransfer(bytes: Buffer, encoding: string): Buffer {
  if (encoding === 'base64') return encodeBase64(bytes);
  return encoding === 'quoted-printable' ? encodeQuotedPrintable(bytes) : bytes;
}
