// The data items of FETCH as a table (RFC 3501 §6.4.5): how each reads and what it needs. An extension adds a row.
import type { Lexer } from './wire/lexer.ts';
import type { Partial, Section } from './wire/types.ts';
import { WireError } from './wire/wire-error.ts';

export type FetchItem =
  | { readonly kind: 'flags' | 'uid' | 'internaldate' | 'size' | 'modseq' | 'envelope' | 'body' | 'bodystructure' }
  /** RFC 8474 §5.3. */
  | { readonly kind: 'emailid' | 'threadid' }
  | {
      readonly kind: 'section';
      /** As it is named in the answer: `BODY[…]<…>` or the RFC822 macro. */
      readonly label: 'BODY' | 'RFC822' | 'RFC822.HEADER' | 'RFC822.TEXT';
      readonly section: Section;
      readonly partial: Partial | undefined;
      /** Whether it sets \Seen. */
      readonly marks: boolean;
    }
  /** RFC 3516 §4.2. */
  | {
      readonly kind: 'binary' | 'binarysize';
      readonly part: readonly number[];
      readonly partial: Partial | undefined;
      readonly marks: boolean;
    };

const binaryPart = (lexer: Lexer): readonly number[] => {
  const { part, of } = lexer.section();
  if (of !== 'all') throw new WireError('Only part numbers are allowed here');
  return part;
};

const whole: Section = { part: [], of: 'all', fields: [] };
const header: Section = { part: [], of: 'header', fields: [] };
const text: Section = { part: [], of: 'text', fields: [] };

const simple = (kind: Exclude<FetchItem['kind'], 'section' | 'binary' | 'binarysize'>) => (): FetchItem => ({ kind });
const rfc822 =
  (label: 'RFC822' | 'RFC822.HEADER' | 'RFC822.TEXT', section: Section, marks: boolean) => (): FetchItem => ({
    kind: 'section',
    label,
    section,
    partial: undefined,
    marks,
  });

const items: ReadonlyMap<string, (lexer: Lexer) => FetchItem> = new Map([
  ['FLAGS', simple('flags')],
  ['UID', simple('uid')],
  ['INTERNALDATE', simple('internaldate')],
  ['RFC822.SIZE', simple('size')],
  ['ENVELOPE', simple('envelope')],
  ['BODYSTRUCTURE', simple('bodystructure')],
  ['RFC822', rfc822('RFC822', whole, true)],
  ['RFC822.HEADER', rfc822('RFC822.HEADER', header, false)],
  ['RFC822.TEXT', rfc822('RFC822.TEXT', text, true)],
  /** RFC 7162 §3.1.5. */
  ['MODSEQ', simple('modseq')],
  ['EMAILID', simple('emailid')],
  ['THREADID', simple('threadid')],
  ['BODY', (lexer: Lexer): FetchItem => (lexer.peek() === '[' ? section(lexer, true) : { kind: 'body' })],
  ['BODY.PEEK', (lexer: Lexer): FetchItem => section(lexer, false)],
  ['BINARY', (lexer: Lexer): FetchItem => binary(lexer, true)],
  ['BINARY.PEEK', (lexer: Lexer): FetchItem => binary(lexer, false)],
  [
    'BINARY.SIZE',
    (lexer: Lexer): FetchItem => ({ kind: 'binarysize', part: binaryPart(lexer), partial: undefined, marks: false }),
  ],
]);

function section(lexer: Lexer, marks: boolean): FetchItem {
  return { kind: 'section', label: 'BODY', section: lexer.section(), partial: lexer.partial(), marks };
}

function binary(lexer: Lexer, marks: boolean): FetchItem {
  return { kind: 'binary', part: binaryPart(lexer), partial: lexer.partial(), marks };
}

const macros: Readonly<Record<string, readonly FetchItem[]>> = {
  FAST: [{ kind: 'flags' }, { kind: 'internaldate' }, { kind: 'size' }],
  ALL: [{ kind: 'flags' }, { kind: 'internaldate' }, { kind: 'size' }, { kind: 'envelope' }],
  FULL: [{ kind: 'flags' }, { kind: 'internaldate' }, { kind: 'size' }, { kind: 'envelope' }, { kind: 'body' }],
};

export function parseFetchItems(lexer: Lexer): readonly FetchItem[] {
  if (lexer.peek() === '(') {
    const list = lexer.list(() => parseItem(lexer));
    if (list.length === 0) throw new WireError('Empty data item list');
    return list;
  }
  const macro = macros[lexer.peekKeyword()];
  if (!macro) return [parseItem(lexer)];
  lexer.keyword();
  return macro;
}

function parseItem(lexer: Lexer): FetchItem {
  const parse = items.get(lexer.attributeName());
  if (!parse) throw new WireError('Unknown data item');
  return parse(lexer);
}
