// Modified UTF-7 (RFC 3501 §5.1.3): mailbox names on the IMAP wire and as Maildir++ folder names on disk.

/** Unicode to modified UTF-7; printable ASCII stays, `&` becomes `&-`. */
export function encodeModifiedUtf7(name: string): string {
  return name.replace(/&|[^\x20-\x7e]+/g, run => {
    if (run === '&') return '&-';
    const utf16 = Buffer.from(run, 'utf16le').swap16();
    return `&${utf16.toString('base64').replace(/=+$/, '').replace(/\//g, ',')}-`;
  });
}

/**
 * Modified UTF-7 to Unicode; undefined for what is not canonical: 8-bit or control characters, an unfinished shift,
 * encoded printable ASCII, lone surrogates, stray bits. Only a canonical name maps back to itself.
 */
export function decodeModifiedUtf7(text: string): string | undefined {
  if (/[^\x20-\x7e]/.test(text)) return undefined;
  let valid = true;
  const name = text.replace(/&([^-]*)(-?)/g, (_, shifted: string, end: string) => {
    if (end === '') valid = false;
    if (shifted === '') return '&';
    const bytes = Buffer.from(shifted.replace(/,/g, '/'), 'base64');
    if (bytes.length % 2 !== 0) {
      valid = false;
      return '';
    }
    return bytes.swap16().toString('utf16le');
  });
  return valid && !/\p{Cs}/u.test(name) && encodeModifiedUtf7(name) === text ? name : undefined;
}
