// The search keys of RFC 3501 §6.4.4 as a table: how each reads and what it asks. An extension adds a row.
import { flagBits, type MessageRecord } from '../mailstore/mailbox.ts';
import { foldText, type SearchKey } from '../mailstore/search.ts';
import { spansHold } from './number-spans.ts';
import type { View } from './view.ts';
import type { Lexer } from './wire/lexer.ts';
import type { SequenceSet } from './wire/types.ts';
import { WireError } from './wire/wire-error.ts';

/** What a key may need to know when it is asked: numbers mean what the client was told. */
export interface SearchContext {
  readonly view: View;
  /** ms since the epoch. */
  readonly now: number;
}

export type ParsedKey = (context: SearchContext) => SearchKey;

export interface SearchReader {
  readonly lexer: Lexer;
  /** Text of an astring in the charset of the command. */
  text(): string;
  /** Told that the answer must name the highest mod-sequence (RFC 7162 §3.1.5). */
  usesModseq: boolean;
  /** Keys read so far, nested ones included. */
  keys: number;
}

const maxKeys = 500;
const dayMs = 86_400_000;

type KeyParser = (reader: SearchReader) => ParsedKey;

const test = (asks: (record: MessageRecord) => boolean): ParsedKey => {
  const key: SearchKey = { kind: 'record', test: asks };
  return () => key;
};

const flag = (name: keyof typeof flagBits, set: boolean): KeyParser => {
  const bit = flagBits[name];
  return () => test(record => ((record.flags & bit) !== 0) === set);
};

const keyword =
  (set: boolean): KeyParser =>
  ({ lexer }) => {
    lexer.sp();
    const wanted = lexer.flag().toLowerCase();
    return test(record => record.keywords.some(name => name.toLowerCase() === wanted) === set);
  };

const header =
  (name: string): KeyParser =>
  reader => {
    reader.lexer.sp();
    const key: SearchKey = { kind: 'header', name, text: foldText(reader.text()) };
    return () => key;
  };

const anyHeader: KeyParser = reader => {
  reader.lexer.sp();
  const name = reader.lexer.astring().toString('latin1');
  return header(name)(reader);
};

const content =
  (kind: 'body' | 'text'): KeyParser =>
  reader => {
    reader.lexer.sp();
    const key: SearchKey = { kind, text: foldText(reader.text()) };
    return () => key;
  };

type Span = (day: number) => readonly [from: number, to: number];
const before: Span = day => [-Infinity, day];
const on: Span = day => [day, day + dayMs];
const since: Span = day => [day, Infinity];

/** RFC 3501 §6.4.4: disregarding time and zone; INTERNALDATE is told in UTC, so its day is that of UTC. */
const received =
  (span: Span): KeyParser =>
  ({ lexer }) => {
    lexer.sp();
    const [from, to] = span(lexer.date());
    return test(({ internalDate }) => internalDate >= from && internalDate < to);
  };

const sent =
  (span: Span): KeyParser =>
  ({ lexer }) => {
    lexer.sp();
    const [from, to] = span(lexer.date());
    return () => ({ kind: 'sent', from, to });
  };

const size =
  (asks: (size: number, limit: number) => boolean): KeyParser =>
  ({ lexer }) => {
    lexer.sp();
    const limit = lexer.number();
    return test(record => asks(record.size, limit));
  };

/** RFC 5032 §3: seconds before now. */
const within =
  (asks: (age: number, interval: number) => boolean): KeyParser =>
  ({ lexer }) => {
    lexer.sp();
    const interval = lexer.nzNumber() * 1000;
    return ({ now }) => ({ kind: 'record', test: record => asks(now - record.internalDate, interval) });
  };

const recent =
  (set: boolean): ParsedKey =>
  ({ view }) => ({
    kind: 'record',
    test: record => view.isRecent(record.uid) === set,
  });

const newMessages: ParsedKey = ({ view }) => ({
  kind: 'record',
  test: record => view.isRecent(record.uid) && (record.flags & flagBits['\\Seen']) === 0,
});

/** RFC 7162 §3.1.5; the entry name and type that may stand in front say nothing to us. */
const modseq: KeyParser = reader => {
  const { lexer } = reader;
  lexer.sp();
  if (lexer.peek() === '"') {
    lexer.string();
    lexer.sp();
    lexer.keyword();
    lexer.sp();
  }
  const least = lexer.modseq();
  reader.usesModseq = true;
  return test(record => record.modseq >= least);
};

/** RFC 8474 §5.4; no message has a THREADID here. */
const emailId: KeyParser = ({ lexer }) => {
  lexer.sp();
  const id = lexer.atom();
  return () => ({ kind: 'email-id', id });
};
const threadId: KeyParser = ({ lexer }) => {
  lexer.sp();
  lexer.atom();
  return test(() => false);
};

const uid: KeyParser = ({ lexer }) => {
  lexer.sp();
  return among(lexer.sequenceSet(), true);
};

/** Ranges instead of a list of messages: a command may hold hundreds of `1:*`. */
const among =
  (set: SequenceSet, byUid: boolean): ParsedKey =>
  ({ view }) => {
    const spans = view.uidSpans(set, byUid);
    return { kind: 'record', test: record => spansHold(spans, record.uid) };
  };

const keys: ReadonlyMap<string, KeyParser> = new Map<string, KeyParser>([
  ['ALL', () => test(() => true)],
  ['ANSWERED', flag('\\Answered', true)],
  ['UNANSWERED', flag('\\Answered', false)],
  ['DELETED', flag('\\Deleted', true)],
  ['UNDELETED', flag('\\Deleted', false)],
  ['DRAFT', flag('\\Draft', true)],
  ['UNDRAFT', flag('\\Draft', false)],
  ['FLAGGED', flag('\\Flagged', true)],
  ['UNFLAGGED', flag('\\Flagged', false)],
  ['SEEN', flag('\\Seen', true)],
  ['UNSEEN', flag('\\Seen', false)],
  ['RECENT', () => recent(true)],
  ['OLD', () => recent(false)],
  ['NEW', () => newMessages],
  ['KEYWORD', keyword(true)],
  ['UNKEYWORD', keyword(false)],
  ['FROM', header('From')],
  ['TO', header('To')],
  ['CC', header('Cc')],
  ['BCC', header('Bcc')],
  ['SUBJECT', header('Subject')],
  ['HEADER', anyHeader],
  ['BODY', content('body')],
  ['TEXT', content('text')],
  ['BEFORE', received(before)],
  ['ON', received(on)],
  ['SINCE', received(since)],
  ['SENTBEFORE', sent(before)],
  ['SENTON', sent(on)],
  ['SENTSINCE', sent(since)],
  ['LARGER', size((bytes, limit) => bytes > limit)],
  ['SMALLER', size((bytes, limit) => bytes < limit)],
  ['OLDER', within((age, interval) => age > interval)],
  ['YOUNGER', within((age, interval) => age <= interval)],
  ['UID', uid],
  ['EMAILID', emailId],
  ['THREADID', threadId],
  ['MODSEQ', modseq],
  ['NOT', reader => not(reader)],
  ['OR', reader => or(reader)],
]);

function not(reader: SearchReader): ParsedKey {
  reader.lexer.sp();
  const key = parseKey(reader);
  return context => ({ kind: 'not', key: key(context) });
}

function or(reader: SearchReader): ParsedKey {
  reader.lexer.sp();
  const one = parseKey(reader);
  reader.lexer.sp();
  const other = parseKey(reader);
  return context => ({ kind: 'or', keys: [one(context), other(context)] });
}

function parseKey(reader: SearchReader): ParsedKey {
  const { lexer } = reader;
  reader.keys += 1;
  if (reader.keys > maxKeys) throw new WireError('Too many search keys');
  return lexer.nested(() => {
    if (lexer.peek() === '(') return all(lexer.list(() => parseKey(reader)));
    if (/[0-9*]/.test(lexer.peek())) return among(lexer.sequenceSet(), false);
    const parse = keys.get(lexer.keyword());
    if (!parse) throw new WireError('Unknown search key');
    return parse(reader);
  });
}

/** One or more keys, all of which must match. */
export function parseKeys(reader: SearchReader): ParsedKey {
  const parsed: ParsedKey[] = [];
  do parsed.push(parseKey(reader));
  while (reader.lexer.trySp());
  return all(parsed);
}

function all(parsed: readonly ParsedKey[]): ParsedKey {
  const [only] = parsed;
  if (!only) throw new WireError('Empty search key list');
  return parsed.length === 1 ? only : context => ({ kind: 'and', keys: parsed.map(key => key(context)) });
}
