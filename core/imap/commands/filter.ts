import { searchMailbox } from '../../mailstore/search.ts';
import { command, type Selected } from '../command.ts';
import type { Filtered, FilterSpec } from '../ports.ts';
import { bad, type Ending, no, ok, Refusal } from '../response.ts';
import type { ParsedKey } from '../search-keys.ts';
import { encodeString } from '../wire/encoder.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';
import { parseCriteria } from './search.ts';

/** draft-bosch-imap-filter-sieve-00 §3.2. */
export const filter = filterCommand('FILTER', false);
export const uidFilter = filterCommand('UID FILTER', true);

interface FilterArguments {
  readonly spec: FilterSpec;
  readonly key: ParsedKey;
}

function filterCommand(name: string, byUid: boolean) {
  return command({
    name,
    state: 'selected',
    access: 'write',
    // Criteria may name message numbers, and so does FILTERED.
    updates: 'no-expunge',
    parse: parseFilter,
    run: (at, args) => runFilter(at, args, byUid),
  });
}

function parseFilter(lexer: Lexer): FilterArguments {
  lexer.sp();
  if (lexer.keyword() !== 'SIEVE') throw new WireError('Unknown filter type');
  lexer.sp();
  const spec = parseSpec(lexer);
  lexer.sp();
  return { spec, key: parseCriteria(lexer).key };
}

function parseSpec(lexer: Lexer): FilterSpec {
  const kind = lexer.keyword();
  if (kind === 'DELIVERY') return { kind: 'delivery' };
  lexer.sp();
  if (kind === 'SCRIPT') return { kind: 'script', source: lexer.string() };
  if (kind !== 'PERSONAL' && kind !== 'GLOBAL') throw new WireError('Unknown filter');
  const name = lexer.astring().toString('utf8');
  if (name.includes('\ufffd')) throw new WireError('Script name is not UTF-8');
  return { kind: kind === 'PERSONAL' ? 'personal' : 'global', name };
}

async function runFilter(at: Selected, { spec, key }: FilterArguments, byUid: boolean): Promise<Ending> {
  const { view, out } = at;
  const rules = at.service.rules?.();
  if (!rules?.filter) throw new Refusal(bad('Unknown command'));
  const correlator = `(TAG ${encodeString(at.tag)})`;
  const opened = await rules.openFilter({ account: at.account, mail: at.mail }, spec);
  if ('errors' in opened) {
    // §3.4
    out.untagged(`FILTER ${correlator} ERRORS ${encodeText(opened.errors)}`);
    return no('Filter cannot be used');
  }
  if (opened.warnings !== undefined) out.untagged(`FILTER ${correlator} WARNINGS ${encodeText(opened.warnings)}`);
  const asked = key({ view, now: at.service.clock.now() });
  const found = await searchMailbox(view.mailbox, view.records, asked, { signal: at.signal });
  for (const { uid } of found) {
    at.signal.throwIfAborted();
    const filtered = await opened.apply(view.mailbox, uid);
    const seq = view.find(uid)?.seq;
    const result = resultOf(filtered);
    // §3.3: only where the user sees something.
    if (seq !== undefined && result !== undefined)
      out.untagged(`${seq} FILTERED ${correlator} ${byUid ? `UID ${uid} ` : ''}${result}`);
    await out.pace();
  }
  return ok('Filter completed');
}

function resultOf({ changed, errors, warnings }: Filtered): string | undefined {
  if (errors !== undefined) return `ERRORS ${encodeText(errors)}`;
  if (warnings !== undefined) return `WARNINGS ${encodeText(warnings)}`;
  return changed ? 'OK' : undefined;
}

/** Text in UTF-8, as octets. */
const encodeText = (text: string): string => encodeString(Buffer.from(text).toString('latin1'));
