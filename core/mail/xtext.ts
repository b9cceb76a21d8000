// xtext: RFC 3461 §4, the encoding of ENVID, ORCPT and AUTH= in SMTP; utf-8-addr-xtext: RFC 6533 §3.

/** Undefined where the text is not xtext. Bytes beyond ASCII that were encoded are read as UTF-8. */
export function decodeXtext(text: string): string | undefined {
  if (!/^(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[\dA-F]{2})*$/.test(text)) return undefined;
  const binary = text.replace(/\+([\dA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(binary, 'latin1').toString('utf8');
}

/** Bytes outside printable ASCII, `+` and `=` as `+XX`. */
export const encodeXtext = (text: string): string =>
  Buffer.from(text, 'utf8')
    .toString('latin1')
    .replace(
      /[^\x21-\x2a\x2c-\x3c\x3e-\x7e]/g,
      byte => `+${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
    );

/** An ORCPT address of type `utf-8` (RFC 6533 §3): `\x{HEX}` for what is not printable ASCII. Undefined where malformed. */
export function decodeUtf8Address(text: string): string | undefined {
  if (/\\(?!x\{[\dA-F]{1,6}\})/i.test(text)) return undefined;
  const points = [...text.matchAll(/\\x\{([\dA-F]+)\}/gi)].map(match => Number.parseInt(match[1] ?? '', 16));
  if (points.some(point => point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))) return undefined;
  return text.replace(/\\x\{([\dA-F]+)\}/gi, (_, hex: string) => String.fromCodePoint(Number.parseInt(hex, 16)));
}

/** For a next hop or a report that is not UTF-8: RFC 6533 §3 utf-8-addr-xtext. */
export const encodeUtf8Address = (text: string): string =>
  [...text]
    .map(character =>
      /[\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]/.test(character)
        ? character
        : `\\x{${(character.codePointAt(0) ?? 0).toString(16).toUpperCase()}}`,
    )
    .join('');
