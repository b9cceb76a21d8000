import { MailboxError, type MailboxInfo } from '../../mailstore/mailbox.ts';
import { type Authenticated, command } from '../command.ts';
import { listPattern } from '../list-pattern.ts';
import { decodeName, delimiter, encodeMailbox } from '../mailbox-name.ts';
import { type Ending, ok } from '../response.ts';
import { encodeStatus, parseStatusItems, type StatusItem } from '../status-items.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

/** What is listed and what is told of it: RFC 5258 §3, RFC 5819 §2, RFC 6154 §2. */
interface ListArguments {
  readonly reference: string;
  readonly patterns: readonly string[];
  readonly extended: boolean;
  readonly select: ReadonlySet<string>;
  readonly tellSubscribed: boolean;
  readonly status: readonly StatusItem[];
}

/** RFC 3501 §6.3.8, extended by RFC 5258. */
export const list = command({
  name: 'LIST',
  state: 'authenticated',
  parse: parseList,
  run: runList,
});

/** RFC 3501 §6.3.9. */
export const lsub = command({
  name: 'LSUB',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const reference = decodeName(lexer.astring());
    lexer.sp();
    return { reference, pattern: decodeName(lexer.listMailbox()) };
  },
  async run(at, { reference, pattern }) {
    const matcher = listPattern(reference, pattern);
    const names = await at.mail.subscriptions();
    const lines = new Map<string, boolean>();
    for (const name of names) {
      if (matcher.matches(name)) lines.set(name, true);
      // "%" stops at a delimiter: a parent that is not subscribed itself is named with \Noselect.
      else if (pattern.endsWith('%')) {
        for (const parent of parentsOf(name))
          if (matcher.matches(parent) && !lines.has(parent)) lines.set(parent, false);
      }
    }
    for (const [name, subscribed] of [...lines].sort(([a], [b]) => (a < b ? -1 : 1)))
      at.out.untagged(`LSUB (${subscribed ? '' : '\\Noselect'}) "${delimiter}" ${encodeMailbox(name)}`);
    return ok('Lsub completed');
  },
});

const maxPatterns = 100;
const selectOptions = new Set(['SUBSCRIBED', 'REMOTE', 'RECURSIVEMATCH', 'SPECIAL-USE']);

function parseList(lexer: Lexer): ListArguments {
  lexer.sp();
  const select = new Set<string>();
  let extended = false;
  if (lexer.peek() === '(') {
    extended = true;
    for (const option of lexer.list(() => lexer.keyword())) {
      if (!selectOptions.has(option)) throw new WireError('Unknown selection option');
      select.add(option);
    }
    // RFC 5258 §3: RECURSIVEMATCH alone says nothing.
    if (select.has('RECURSIVEMATCH') && !select.has('SUBSCRIBED') && !select.has('SPECIAL-USE'))
      throw new WireError('RECURSIVEMATCH needs another selection option');
    lexer.sp();
  }
  const reference = decodeName(lexer.astring());
  lexer.sp();
  const many = lexer.peek() === '(';
  const patterns = many ? lexer.list(() => decodeName(lexer.listMailbox())) : [decodeName(lexer.listMailbox())];
  if (patterns.length > maxPatterns) throw new WireError('Too many mailbox patterns');
  const returns = parseReturn(lexer);
  return { reference, patterns, extended: extended || many || returns.given, select, ...returns };
}

function parseReturn(lexer: Lexer): {
  readonly given: boolean;
  readonly tellSubscribed: boolean;
  readonly status: readonly StatusItem[];
} {
  if (!lexer.trySp()) return { given: false, tellSubscribed: false, status: [] };
  if (!lexer.tryKeyword('RETURN')) throw new WireError('Unexpected extra arguments');
  lexer.sp();
  let tellSubscribed = false;
  let status: readonly StatusItem[] = [];
  lexer.list(() => {
    const option = lexer.keyword();
    if (option === 'SUBSCRIBED') tellSubscribed = true;
    else if (option === 'STATUS') {
      lexer.sp();
      status = parseStatusItems(lexer);
    } else if (option !== 'CHILDREN' && option !== 'SPECIAL-USE') throw new WireError('Unknown return option');
  });
  return { given: true, tellSubscribed, status };
}

async function runList(at: Authenticated, args: ListArguments): Promise<Ending> {
  const { reference, patterns, extended, select } = args;
  // RFC 3501 §6.3.8: an empty name asks for the delimiter.
  if (!extended && patterns[0] === '') {
    at.out.untagged(`LIST (\\Noselect) "${delimiter}" ""`);
    return ok('List completed');
  }
  const matchers = patterns.map(pattern => listPattern(reference, pattern));
  const all = await at.mail.list();
  const candidates = select.has('SUBSCRIBED') ? withVanished(all, await at.mail.subscriptions()) : all;
  for (const info of [...candidates].sort((a, b) => order(a.name, b.name))) {
    if (!matchers.some(matcher => matcher.matches(info.name))) continue;
    const chosen = isChosen(info, select);
    const children = select.has('RECURSIVEMATCH') ? childInfo(info, candidates, select, matchers) : [];
    if (!chosen && children.length === 0) continue;
    writeEntry(at, info, args, children);
    if (args.status.length > 0 && info.selectable && chosen) await writeStatus(at, info.name, args.status);
    await at.out.pace();
  }
  return ok('List completed');
}

const order = (a: string, b: string): number => (a === b ? 0 : a === 'INBOX' ? -1 : b === 'INBOX' ? 1 : a < b ? -1 : 1);

function isChosen(info: MailboxInfo, select: ReadonlySet<string>): boolean {
  if (select.has('SUBSCRIBED') && !info.subscribed) return false;
  return !select.has('SPECIAL-USE') || info.specialUse.length > 0;
}

/** RFC 5258 §3.1: subscribed names of mailboxes that do not exist are listed with \NonExistent. */
function withVanished(all: readonly MailboxInfo[], subscribed: readonly string[]): readonly MailboxInfo[] {
  const known = new Set(all.map(info => info.name));
  const vanished = subscribed.filter(name => !known.has(name));
  return [
    ...all,
    ...vanished.map(name => ({ name, selectable: false, hasChildren: false, subscribed: true, specialUse: [] })),
  ];
}

/** RFC 5258 §3.5: which selection options hold for a child that the patterns themselves do not show. */
function childInfo(
  info: MailboxInfo,
  all: readonly MailboxInfo[],
  select: ReadonlySet<string>,
  matchers: readonly { matches(name: string): boolean }[],
): readonly string[] {
  const below = all.filter(
    child =>
      child.name.startsWith(info.name + delimiter) &&
      isChosen(child, select) &&
      !matchers.some(matcher => matcher.matches(child.name)),
  );
  return below.length === 0 ? [] : [...select].filter(option => option === 'SUBSCRIBED' || option === 'SPECIAL-USE');
}

function writeEntry(at: Authenticated, info: MailboxInfo, args: ListArguments, children: readonly string[]): void {
  const flags: string[] = [];
  if (!info.selectable) flags.push(args.extended ? '\\NonExistent' : '\\Noselect');
  flags.push(info.hasChildren ? '\\HasChildren' : '\\HasNoChildren');
  if (info.subscribed && (args.tellSubscribed || args.select.has('SUBSCRIBED'))) flags.push('\\Subscribed');
  flags.push(...info.specialUse);
  const extra = children.length > 0 ? ` (CHILDINFO (${children.map(option => `"${option}"`).join(' ')}))` : '';
  at.out.untagged(`LIST (${flags.join(' ')}) "${delimiter}" ${encodeMailbox(info.name)}${extra}`);
}

async function writeStatus(at: Authenticated, name: string, items: readonly StatusItem[]): Promise<void> {
  try {
    const status = await at.mail.status(name);
    at.out.untagged(`STATUS ${encodeMailbox(name)} ${encodeStatus(status, items, at.service.limits)}`);
  } catch (error) {
    // RFC 5819 §2: a mailbox whose status cannot be told is listed without it.
    if (!(error instanceof MailboxError)) throw error;
  }
}

function parentsOf(name: string): readonly string[] {
  const parts = name.split(delimiter);
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join(delimiter));
}
