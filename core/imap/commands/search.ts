import { decodeText, knowsCharset } from '../../mail/charset.ts';
import { searchMailbox } from '../../mailstore/search.ts';
import { command, type Selected } from '../command.ts';
import { type Ending, no, ok, Refusal } from '../response.ts';
import { type ParsedKey, parseKeys, type SearchReader } from '../search-keys.ts';
import { encodeNumberSet, encodeString } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

/** RFC 3501 §6.4.4; RETURN of RFC 4731. */
export const search = searchCommand('SEARCH', false);
export const uidSearch = searchCommand('UID SEARCH', true);

type ReturnOption = 'MIN' | 'MAX' | 'ALL' | 'COUNT';

interface SearchArguments {
  /** Undefined: the answer is SEARCH, not ESEARCH. */
  readonly returns: ReadonlySet<ReturnOption> | undefined;
  readonly key: ParsedKey;
  readonly usesModseq: boolean;
}

function searchCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    // RFC 7162 §3.2.10.2: UID SEARCH may name message numbers, too.
    updates: 'no-expunge',
    parse: parseSearch,
    run: (at, args) => runSearch(at, args, byUid),
  });
}

function parseSearch(lexer: Lexer): SearchArguments {
  lexer.sp();
  return { returns: parseReturns(lexer), ...parseCriteria(lexer) };
}

/** `[CHARSET …] search-key…`, for all commands that take them. */
export function parseCriteria(lexer: Lexer): Omit<SearchArguments, 'returns'> {
  let charset = 'us-ascii';
  if (lexer.tryKeyword('CHARSET')) {
    lexer.sp();
    charset = lexer.astring().toString('latin1');
    // RFC 3501 §6.4.4: the two that every client can fall back on.
    if (!knowsCharset(charset)) throw new Refusal(no('Charset is not known', 'BADCHARSET (US-ASCII UTF-8)'));
    lexer.sp();
  }
  const reader: SearchReader = { lexer, text: () => decodeText(lexer.astring(), charset), usesModseq: false, keys: 0 };
  const key = parseKeys(reader);
  return { key, usesModseq: reader.usesModseq };
}

function parseReturns(lexer: Lexer): ReadonlySet<ReturnOption> | undefined {
  if (!lexer.tryKeyword('RETURN')) return undefined;
  lexer.sp();
  const options = lexer.list((): ReturnOption => {
    const option = lexer.keyword();
    if (option === 'MIN' || option === 'MAX' || option === 'ALL' || option === 'COUNT') return option;
    throw new WireError('Unknown return option');
  });
  lexer.sp();
  // RFC 4731 §3.1: an empty list means ALL.
  return new Set(options.length === 0 ? (['ALL'] as const) : options);
}

async function runSearch(at: Selected, { returns, key, usesModseq }: SearchArguments, byUid: boolean): Promise<Ending> {
  const { view } = at;
  if (usesModseq) at.enable('CONDSTORE');
  const asked = key({ view, now: at.service.clock.now() });
  const found = await searchMailbox(view.mailbox, view.records, asked, { signal: at.signal });
  const numbers = found.flatMap(record => (byUid ? record.uid : (view.find(record.uid)?.seq ?? [])));
  const highest = usesModseq && found.length > 0 ? Math.max(...found.map(record => record.modseq)) : undefined;
  if (returns) writeExtended(at, returns, numbers, byUid, highest);
  else {
    const suffix = highest === undefined ? '' : ` (MODSEQ ${highest})`;
    at.out.untagged(`SEARCH${numbers.map(number => ` ${number}`).join('')}${suffix}`);
  }
  return ok('Search completed');
}

/** RFC 4731 §3.1 and RFC 4466 §2.6.2: what has no result is left out, but for COUNT. */
function writeExtended(
  at: Selected,
  returns: ReadonlySet<ReturnOption>,
  numbers: readonly number[],
  byUid: boolean,
  highest: number | undefined,
): void {
  const words = [`ESEARCH (TAG ${encodeString(at.tag)})`];
  if (byUid) words.push('UID');
  const first = numbers[0];
  if (first !== undefined) {
    if (returns.has('MIN')) words.push(`MIN ${first}`);
    if (returns.has('MAX')) words.push(`MAX ${numbers.at(-1)}`);
    if (returns.has('ALL')) words.push(`ALL ${encodeNumberSet(numbers)}`);
  }
  if (returns.has('COUNT')) words.push(`COUNT ${numbers.length}`);
  if (highest !== undefined) words.push(`MODSEQ ${highest}`);
  at.out.untagged(words.join(' '));
}
