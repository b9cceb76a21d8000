// Recipients from the configuration, or from files in Postfix's map syntax (`relay_recipient_maps`): `user@domain`, a bare
// `user` for the domain that is asked about, `@domain` for all of it. What stands behind the key does not matter.
import { type MapLine, mapLines } from '../lib/map-lines.ts';
import { parseDomain, parseMailbox } from '../mail/address.ts';
import { keyOf, keysOf, type RecipientSource } from './source.ts';

export interface TableProblem {
  readonly line: number;
  readonly message: string;
}

export interface AddressTable {
  readonly keys: ReadonlySet<string>;
  readonly problems: readonly TableProblem[];
}

function keyFrom(text: string): string | undefined {
  if (text.startsWith('@')) {
    const domain = parseDomain(text.slice(1));
    return domain === undefined ? undefined : `@${domain}`;
  }
  const bare = text.replace(/@$/, '');
  if (!bare.includes('@'))
    return parseMailbox(`${bare}@example.org`, { smtputf8: true }).kind === 'address' ? bare.toLowerCase() : undefined;
  const parsed = parseMailbox(text, { smtputf8: true });
  return parsed.kind === 'address' ? keyOf(parsed.address) : undefined;
}

function tableOf(lines: readonly MapLine[]): AddressTable {
  const keys = new Set<string>();
  const problems: TableProblem[] = [];
  for (const { line, text } of lines) {
    const word = /^"[^"]*"@\S+|^\S+/.exec(text)?.[0] ?? '';
    const key = keyFrom(word);
    if (key === undefined) problems.push({ line, message: `'${word}' is no address` });
    else keys.add(key);
  }
  return { keys, problems };
}

export const parseAddressMap = (text: string): AddressTable => tableOf(mapLines(text));
export const parseAddressList = (list: readonly string[]): AddressTable =>
  tableOf(list.map((text, index) => ({ line: index, text: text.trim() })));

/** `table`: as it is now; undefined while it cannot be read. */
export function tableSource(
  name: string,
  delimiter: string,
  table: () => Promise<ReadonlySet<string> | undefined>,
): RecipientSource {
  return {
    async verify(address) {
      const keys = await table();
      if (!keys) return { kind: 'unavailable', why: `${name} cannot be read` };
      const domain = address.domain.toLowerCase();
      const own = keysOf(address, delimiter);
      const wanted = [...own, ...own.map(key => key.slice(0, key.lastIndexOf('@'))), `@${domain}`];
      const hit = wanted.find(key => keys.has(key));
      return hit === undefined
        ? { kind: 'none', why: `not in ${name}` }
        : { kind: 'found', why: `'${hit}' in ${name}` };
    },
  };
}
