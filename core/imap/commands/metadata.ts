import { MetadataError, metadataLimits } from '../../mailstore/metadata.ts';
import { type Authenticated, command } from '../command.ts';
import { encodeMailbox, mailboxName } from '../mailbox-name.ts';
import { bad, no, ok, Refusal } from '../response.ts';
import { encodeAstring, encodeString } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

interface GetArguments {
  /** `''` is the server. */
  readonly mailbox: string;
  readonly maxSize: number | undefined;
  readonly depth: 0 | 1 | 'infinity';
  readonly entries: readonly string[];
}

const maxEntries = 100;
/** RFC 5464 §3.2.1.1: the client cannot change it. */
const readOnly = '/shared/admin';

/** RFC 5464 §4.2. */
export const getMetadata = command({
  name: 'GETMETADATA',
  state: 'authenticated',
  parse: parseGet,
  async run(at, args) {
    const store = await storeFor(at, args.mailbox);
    const all = await store.entries(at.account.name, args.mailbox);
    const shown = new Map<string, Buffer | undefined>();
    let longest = 0;
    for (const name of args.entries) {
      if (args.depth === 0) shown.set(name, all.get(name));
      for (const [entry, value] of all) if (isWithin(entry, name, args.depth)) shown.set(entry, value);
    }
    for (const [entry, value] of shown)
      if (value && args.maxSize !== undefined && value.length > args.maxSize) {
        longest = Math.max(longest, value.length);
        shown.delete(entry);
      }
    if (shown.size > 0) {
      const pairs = [...shown].map(([entry, value]) => `${encodeAstring(entry)} ${encodeValue(value)}`);
      at.out.untagged(`METADATA ${encodeMailbox(args.mailbox)} (${pairs.join(' ')})`);
    }
    // RFC 5464 §4.2.1
    return ok('Getmetadata completed', longest > 0 ? `METADATA LONGENTRIES ${longest}` : undefined);
  },
});

/** RFC 5464 §4.3: all or none. */
export const setMetadata = command({
  name: 'SETMETADATA',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const mailbox = parseTarget(lexer);
    lexer.sp();
    const changes = new Map<string, Buffer | undefined>();
    lexer.list(() => {
      const entry = entryName(lexer);
      lexer.sp();
      changes.set(entry, lexer.nstring());
    });
    if (changes.size === 0) throw new WireError('Empty entry list');
    return { mailbox, changes };
  },
  async run(at, { mailbox, changes }) {
    const store = await storeFor(at, mailbox);
    if (changes.has(readOnly)) return no('Entry cannot be changed', 'NOPERM');
    try {
      await store.set(at.account.name, mailbox, changes);
    } catch (error) {
      if (!(error instanceof MetadataError)) throw error;
      const { valueBytes } = metadataLimits;
      return error.code === 'maxsize'
        ? no('Value is too large', `METADATA MAXSIZE ${valueBytes}`)
        : no('Too many entries', 'METADATA TOOMANY');
    }
    return ok('Setmetadata completed');
  },
});

function parseGet(lexer: Lexer): GetArguments {
  let options: Pick<GetArguments, 'maxSize' | 'depth'> = { maxSize: undefined, depth: 0 };
  const entries: string[] = [];
  const takeList = (): void => {
    lexer.list(() => {
      const word = lexer.peekKeyword();
      if (word === 'MAXSIZE' || word === 'DEPTH') options = parseOption(lexer, options);
      else entries.push(entryName(lexer));
    });
  };
  lexer.sp();
  // RFC 5464 §5 has the options before the mailbox, its examples behind it; both are taken.
  if (lexer.peek() === '(') {
    takeList();
    lexer.sp();
  }
  const mailbox = parseTarget(lexer);
  while (lexer.trySp())
    if (lexer.peek() === '(') takeList();
    else entries.push(entryName(lexer));
  if (entries.length === 0) throw new WireError('Missing entry name');
  if (entries.length > maxEntries) throw new WireError('Too many entry names');
  return { mailbox, entries: [...new Set(entries)], ...options };
}

function parseOption(lexer: Lexer, options: Pick<GetArguments, 'maxSize' | 'depth'>) {
  const name = lexer.keyword();
  lexer.sp();
  if (name === 'MAXSIZE') return { ...options, maxSize: lexer.number() };
  const depth = lexer.keyword();
  if (depth === '0' || depth === '1') return { ...options, depth: Number(depth) as 0 | 1 };
  if (depth === 'INFINITY') return { ...options, depth: 'infinity' as const };
  throw new WireError('Unknown depth');
}

const parseTarget = (lexer: Lexer): string => {
  const name = lexer.astring();
  return name.length === 0 ? '' : mailboxName(name);
};

/** RFC 5464 §3.2: a wrong name makes the command BAD. */
function entryName(lexer: Lexer): string {
  const name = lexer.astring().toString('latin1').toLowerCase();
  if (name.length > 255 || !/^\/(private|shared)(\/[^/\0-\x1f*%\x7f-\xff]+)*$/.test(name))
    throw new Refusal(bad('Invalid entry name'));
  return name;
}

function isWithin(entry: string, name: string, depth: GetArguments['depth']): boolean {
  if (entry === name) return true;
  if (depth === 0 || !entry.startsWith(`${name}/`)) return false;
  return depth === 'infinity' || !entry.slice(name.length + 1).includes('/');
}

/** literal8 (RFC 3516 §4.5) where NUL is in it. */
function encodeValue(value: Buffer | undefined): string {
  if (value === undefined) return 'NIL';
  const text = value.toString('latin1');
  return text.includes('\0') ? `~{${text.length}}\r\n${text}` : encodeString(text);
}

async function storeFor(at: Authenticated, mailbox: string) {
  const { metadata } = at.service;
  if (!metadata) throw new Refusal(bad('Unknown command'));
  // RFC 5464 §4.1: names that only have children have annotations, too.
  if (mailbox !== '' && !(await at.mail.list()).some(({ name }) => name === mailbox))
    throw new Refusal(no('Mailbox does not exist', 'NONEXISTENT'));
  return metadata;
}

/** For commands that change the tree: what was annotated follows. */
export async function metadataFollows(at: Authenticated, from: string, to: string | undefined): Promise<void> {
  const { metadata } = at.service;
  if (to === undefined) await metadata?.remove(at.account.name, from);
  else await metadata?.rename(at.account.name, from, to);
}
