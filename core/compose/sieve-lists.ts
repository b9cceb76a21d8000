// Lists that rules may look into (RFC 6134), as files: one entry a line, `#` begins a comment. An entry is an address or
// any other text, compared without regard to case; `@example.org` stands for all addresses of that domain.
import { readFile, stat } from 'node:fs/promises';
import { HostError, type ListPort } from '../sieve/ports.ts';

interface Loaded {
  /** Of the file as it was read. */
  readonly state: string;
  /** Lower case → as written. */
  readonly entries: ReadonlyMap<string, string>;
}

export interface ListFiles {
  /** `fileOf` makes the path of a user's own list from the configured one. */
  of(fileOf: (template: string) => string): ListPort;
}

const maxFiles = 500;
const maxBytes = 16 * 1024 * 1024;

function parse(text: string): ReadonlyMap<string, string> {
  const lines = text.split('\n').map(line => line.replace(/(^|\s)#.*$/, '').trim());
  return new Map(lines.filter(line => line !== '').map(line => [line.toLowerCase(), line]));
}

/** `lists`: name → file. */
export function createListFiles(lists: Readonly<Record<string, string>>): ListFiles {
  const loaded = new Map<string, Loaded>();

  /** Undefined where there is no such file: a user need not have the list. */
  async function load(file: string): Promise<Loaded['entries'] | undefined> {
    try {
      const { mtimeMs, size } = await stat(file);
      const state = `${mtimeMs} ${size}`;
      const known = loaded.get(file);
      if (known?.state === state) return known.entries;
      if (size > maxBytes) throw new Error(`It is larger than ${maxBytes} bytes`);
      const entries = parse(await readFile(file, 'utf8'));
      if (loaded.size >= maxFiles) loaded.clear();
      loaded.set(file, { state, entries });
      return entries;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new HostError('temporary', 'A list cannot be read', { cause: error });
    }
  }

  return {
    of(fileOf) {
      const entriesOf = async (list: string) => {
        const template = Object.hasOwn(lists, list) ? lists[list] : undefined;
        return template === undefined ? undefined : load(fileOf(template));
      };
      return {
        valid: async list => Object.hasOwn(lists, list),
        async contains(list, value) {
          const entries = await entriesOf(list);
          const key = value.trim().toLowerCase();
          return entries !== undefined && (entries.has(key) || entries.has(key.slice(key.lastIndexOf('@'))));
        },
        async members(list) {
          const entries = await entriesOf(list);
          return entries && [...entries.values()].filter(entry => entry.lastIndexOf('@') > 0);
        },
      };
    },
  };
}
