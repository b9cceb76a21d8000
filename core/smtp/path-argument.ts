// The path behind `MAIL FROM:` and `RCPT TO:` with the parameters behind it.
import type { Address } from '../mail/address.ts';
import { parsePath } from '../mail/address.ts';
import { type Parameters, parseParameters, pathEnd } from './command-line.ts';

export type PathArgument =
  | {
      readonly kind: 'ok';
      /** `null`: the null path `<>`. */
      readonly address: Address | null;
      readonly nonAscii: boolean;
      readonly parameters: Parameters;
    }
  | { readonly kind: 'bad'; readonly enhanced: '' | '5.5.2'; readonly why: string };

/** `args` is the line in Latin-1 from the verb's argument on; the path begins `skip` characters into it. */
export function readPath(args: string, skip: number): PathArgument {
  const latin = args.slice(skip);
  const nonAscii = /[\x80-\xff]/.test(latin);
  let text = latin;
  if (nonAscii) {
    // RFC 6531 §3.3: UTF-8 and nothing else.
    text = Buffer.from(latin, 'latin1').toString('utf8');
    if (text.includes('\ufffd')) return { kind: 'bad', enhanced: '5.5.2', why: 'Address is not valid UTF-8' };
  }
  const end = pathEnd(text);
  if (end < 0) return { kind: 'bad', enhanced: '5.5.2', why: 'Syntax error: address must stand in <>' };
  // Whether SMTPUTF8 was said and whether a domain may be missing is for the caller to judge.
  const path = parsePath(text.slice(0, end), { smtputf8: true, bareLocal: true });
  if (path.kind === 'error') return { kind: 'bad', enhanced: '', why: 'Address malformed' };
  return { kind: 'ok', address: path.address, nonAscii, parameters: parseParameters(text.slice(end)) };
}
