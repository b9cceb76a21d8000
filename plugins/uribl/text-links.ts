// Links in running text, also as people hide them from machines and programs still find them: `hxxp://`, `evil[.]example`,
// `evil (dot) example`, full stops of other scripts, characters without width. Every pattern is linear in the text.
import { domainOf } from './registered-domain.ts';

/** Characters that no reader sees: soft hyphen, zero width, joiners, direction marks, variation selectors. */
const invisible =
  /\u00ad|[\u200b-\u200f]|[\u202a-\u202e]|[\u2060-\u2064]|[\u2066-\u206f]|\ufeff|\u034f|\u180e|[\ufe00-\ufe0f]/g;

/** Brackets around a full stop, a colon or the word for one. */
const bracketed: readonly (readonly [RegExp, string])[] = [
  [/\s?[[({<]\s?(?:\.|dot|punkt|point|punto)\s?[\])}>]\s?/gi, '.'],
  [/\s?[[({]\s?:\s?[\])}]\s?(?=\/)/g, ':'],
  [/[[({]\s?(?::\/\/)\s?[\])}]/g, '://'],
];

/** The text as a reader takes it: one form of every letter (NFKC), nothing invisible, no brackets in names. */
export function plainText(text: string): string {
  let plain = text.normalize('NFKC').replace(invisible, '');
  for (const [pattern, by] of bracketed) plain = plain.replace(pattern, by);
  return plain.replace(/[\u3002\uff61\u2024]/g, '.');
}

const schemeLink = /\b(h(?:tt|xx|\*\*|__)ps?|ftp)\s?:\s?[\\/]{1,4}\s?([^\s<>"'`{}|^]{3,2000})/gi;
/** Not the host of a mail address, nor the middle of a longer word. */
const bareName =
  /(?<![\p{L}\p{N}_@./%+-])(?:[\p{L}\p{N}_](?:[\p{L}\p{N}_-]{0,61}[\p{L}\p{N}_])?\.){1,12}\p{L}[\p{L}\p{N}-]{1,62}(?![\p{L}\p{N}_@-])/gu;

/** Links with a scheme as complete URLs; `bare`: names without one that end in a top-level domain, as `http://name`. */
export function textLinks(text: string): { readonly links: readonly string[]; readonly bare: readonly string[] } {
  const plain = plainText(text);
  const links: string[] = [];
  for (const [, scheme = '', rest = ''] of plain.matchAll(schemeLink)) {
    const secure = /s$/i.test(scheme) ? 's' : '';
    links.push(`${/^ftp/i.test(scheme) ? 'ftp' : `http${secure}`}://${rest.replace(/[.,;:!?)\]]+$/, '')}`);
  }
  const bare = [...plain.matchAll(bareName)].map(([name]) => name).filter(name => domainOf(name) !== undefined);
  return { links, bare: bare.map(name => `http://${name}`) };
}
