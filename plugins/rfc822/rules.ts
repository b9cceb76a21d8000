// One rule, one clause, one switch. A rule finds what is wrong (an empty string where there is nothing to add, undefined
// where all is well); some can say how to repair it. The defaults refuse only what splits readers of a message (two
// From fields, NUL), mark what sloppy but honest software does, and repair what our own users' clients left out.
import { isAscii } from 'node:buffer';
import {
  type Edit,
  type Envelope,
  formatAddress,
  formatDate,
  formatMessageId,
  type HeaderList,
  type MimePart,
  mailboxesOf,
  parseAddressList,
  parseDate,
  parseDomain,
  parseMailbox,
  walkParts,
} from '../../core/plugin/index.ts';
import type { Facts } from './facts.ts';

export type Action = 'off' | 'mark' | 'quarantine' | 'refuse' | 'repair';

export interface RepairContext {
  readonly now: number;
  readonly id: string;
  readonly hostname: string;
  readonly envelope: Envelope;
}

export interface Rule {
  readonly name: string;
  readonly clause: string;
  /** For the reference. */
  readonly doc: string;
  readonly preset: Action;
  /** For the client, when the rule refuses. */
  readonly text: string;
  /** What it looks at: `mime` and `bytes` cost more than `header`. */
  readonly needs: 'header' | 'mime' | 'bytes' | 'line-ends';
  find(facts: Facts): string | undefined;
  repair?(facts: Facts, context: RepairContext): readonly Edit[];
}

/** RFC 5322 §3.6: at most one of each. From and Date have rules of their own. */
const singular = [
  'Sender',
  'Reply-To',
  'To',
  'Cc',
  'Bcc',
  'Message-ID',
  'In-Reply-To',
  'References',
  'Subject',
  'Date',
];
const addressFields = ['From', 'Sender', 'Reply-To', 'To', 'Cc', 'Bcc'];
const maxLine = 998;

const list = (names: readonly string[]): string | undefined => (names.length > 0 ? names.join(', ') : undefined);
const when = (wrong: boolean, what = ''): string | undefined => (wrong ? what : undefined);
const addHeader = (name: string, value: string): Edit => ({ kind: 'add-header', name, value, at: 'bottom' });

/** What is no address among these; undefined where all are. */
function addressFault(mailboxes: ReturnType<typeof mailboxesOf>, utf8: boolean): string | undefined {
  for (const { local, domain } of mailboxes) {
    const canonical = parseDomain(domain);
    if (local === '' || canonical === undefined) return `'${local}@${domain}'`.slice(0, 100);
    const parsed = parseMailbox(formatAddress(local, canonical), { smtputf8: utf8 });
    if (parsed.kind === 'error') return `'${local}@${domain}' (${parsed.reason})`.slice(0, 100);
  }
  return undefined;
}

function badAddresses(headers: HeaderList, names: readonly string[], utf8: boolean): string | undefined {
  const faults = names.flatMap(name =>
    headers.all(name).flatMap(field => {
      const fault = addressFault(mailboxesOf(parseAddressList(field.value)), utf8);
      return fault === undefined ? [] : [`${name}: ${fault}`];
    }),
  );
  return list(faults.slice(0, 5));
}

function mimeDefects(mime: MimePart | undefined, wanted: ReadonlySet<string>): string | undefined {
  if (!mime) return undefined;
  const found = new Set<string>();
  for (const part of walkParts(mime))
    for (const defect of part.defects) if (wanted.has(defect)) found.add(`${defect} at ${part.section || 'top'}`);
  return list([...found].slice(0, 5));
}

const mimeRule = (
  name: string,
  clause: string,
  preset: Action,
  defects: readonly string[],
  doc: string,
  text: string,
): Rule => {
  const wanted = new Set(defects);
  return { name, clause, preset, doc, text, needs: 'mime', find: ({ mime }) => mimeDefects(mime, wanted) };
};

export const rules: readonly Rule[] = [
  {
    name: 'missing-from',
    clause: 'RFC 5322 §3.6',
    preset: 'mark',
    doc: 'There is no From field. Repair: from the envelope sender.',
    text: 'Message has no From field',
    needs: 'header',
    find: ({ message }) => when(!message.headers.has('from')),
    repair: (_, { envelope }) => (envelope.sender ? [addHeader('From', envelope.sender.text)] : []),
  },
  {
    name: 'duplicate-from',
    clause: 'RFC 5322 §3.6',
    preset: 'refuse',
    doc: 'There are several From fields; which one is checked and which one is shown may differ.',
    text: 'Message has several From fields',
    needs: 'header',
    find: ({ message }) => when(message.headers.all('from').length > 1, `${message.headers.all('from').length} fields`),
  },
  {
    name: 'missing-date',
    clause: 'RFC 5322 §3.6',
    preset: 'repair',
    doc: 'There is no Date field. Repair: the current time.',
    text: 'Message has no Date field',
    needs: 'header',
    find: ({ message }) => when(!message.headers.has('date')),
    repair: (_, { now }) => [addHeader('Date', formatDate(now))],
  },
  {
    name: 'missing-message-id',
    clause: 'RFC 5322 §3.6.4',
    preset: 'repair',
    doc: 'There is no Message-ID field. Repair: one is made from the queue id.',
    text: 'Message has no Message-ID field',
    needs: 'header',
    find: ({ message }) => when(!message.headers.has('message-id')),
    repair: (_, { id, hostname }) => [addHeader('Message-ID', formatMessageId(id, hostname))],
  },
  {
    name: 'duplicate-field',
    clause: 'RFC 5322 §3.6',
    preset: 'mark',
    doc: 'A field that may stand once stands twice (Date, Subject, To, Message-ID …). Repair: the first one stays.',
    text: 'Message repeats a header field that may stand once only',
    needs: 'header',
    find: ({ message }) => list(singular.filter(name => message.headers.all(name).length > 1)),
    repair: ({ message }) =>
      singular.flatMap(name =>
        message.headers
          .all(name)
          .flatMap((_, index): Edit[] => (index > 0 ? [{ kind: 'remove-header', name, index }] : [])),
      ),
  },
  {
    name: 'bad-from',
    clause: 'RFC 5322 §3.6.2',
    preset: 'mark',
    doc: 'The From field holds no address, or something that is none.',
    text: 'Message has no valid address in its From field',
    needs: 'header',
    find({ message, envelope }) {
      const field = message.headers.get('from');
      if (!field) return undefined;
      const mailboxes = mailboxesOf(parseAddressList(field.value));
      return mailboxes.length === 0 ? 'no address' : addressFault(mailboxes, envelope.smtputf8);
    },
  },
  {
    name: 'bad-address',
    clause: 'RFC 5322 §3.4',
    preset: 'off',
    doc: 'Sender, Reply-To, To, Cc or Bcc hold something that is no address.',
    text: 'Message has an invalid address in its header',
    needs: 'header',
    find: ({ message, envelope }) => badAddresses(message.headers, addressFields.slice(1), envelope.smtputf8),
  },
  {
    name: 'missing-sender',
    clause: 'RFC 5322 §3.6.2',
    preset: 'mark',
    doc: 'From names several people and no Sender field says which of them sent the message.',
    text: 'Message is from several authors and has no Sender field',
    needs: 'header',
    find({ message: { headers } }) {
      const from = headers.get('from');
      if (!from?.value.includes(',') || headers.has('sender')) return undefined;
      const count = mailboxesOf(parseAddressList(from.value)).length;
      return when(count > 1, `${count} authors`);
    },
  },
  {
    name: 'bad-date',
    clause: 'RFC 5322 §3.3',
    preset: 'mark',
    doc: 'The Date field is no date of the calendar. Repair: the current time.',
    text: 'Message has an invalid Date field',
    needs: 'header',
    find({ message }) {
      const date = message.headers.get('date');
      return when(date !== undefined && parseDate(date.value) === undefined, date?.value.slice(0, 60));
    },
    repair: (_, { now }) => [{ kind: 'replace-header', name: 'Date', value: formatDate(now), index: 0 }],
  },
  {
    name: 'bad-field',
    clause: 'RFC 5322 §2.2',
    preset: 'mark',
    doc: 'The header section has a line that is no field.',
    text: 'Message has a malformed header line',
    needs: 'header',
    find: ({ message }) => when(message.headers.defects.includes('malformed-field')),
  },
  {
    name: 'eight-bit-header',
    clause: 'RFC 5322 §2.2, RFC 6532 §3',
    preset: 'mark',
    doc: 'The header section has characters beyond ASCII although the client did not ask for SMTPUTF8.',
    text: 'Message has characters beyond ASCII in its header',
    needs: 'header',
    find: ({ message, envelope }) => when(!envelope.smtputf8 && !isAscii(message.headers.raw)),
  },
  {
    name: 'bad-mime-version',
    clause: 'RFC 2045 §4',
    preset: 'off',
    doc: 'There are MIME fields but no `MIME-Version: 1.0`. Repair: the field is added.',
    text: 'Message has MIME fields and no MIME-Version field',
    needs: 'header',
    find({ message: { headers } }) {
      if (!headers.has('content-type') && !headers.has('content-transfer-encoding')) return undefined;
      const version = headers.get('mime-version');
      return when(
        !version || !/^1\.0\b/.test(version.value.replace(/\([^)]*\)/g, '').trim()),
        version?.value.slice(0, 60) ?? 'missing',
      );
    },
    repair: () => [{ kind: 'replace-header', name: 'MIME-Version', value: '1.0' }],
  },
  mimeRule(
    'bad-content-type',
    'RFC 2045 §5.1',
    'mark',
    ['bad-content-type'],
    'A Content-Type field cannot be read.',
    'Message has a malformed Content-Type field',
  ),
  mimeRule(
    'bad-boundary',
    'RFC 2046 §5.1.1',
    'mark',
    ['missing-boundary', 'long-boundary', 'no-parts', 'unclosed-multipart'],
    'A multipart has no boundary, one that is too long, one that never occurs, or no end.',
    'Message has a broken multipart structure',
  ),
  mimeRule(
    'bad-encoding',
    'RFC 2045 §6',
    'mark',
    ['bad-encoding', 'encoded-composite'],
    'A Content-Transfer-Encoding is unknown, or encodes a multipart.',
    'Message has an invalid Content-Transfer-Encoding',
  ),
  mimeRule(
    'ambiguous-mime',
    'RFC 2045 §3',
    'mark',
    ['repeated-field', 'text-after-boundary', 'unclosed-header'],
    'Readers would differ in how they take the message apart: a MIME field stands twice, a boundary line has more text, a part has no end of its header.',
    'Message has an ambiguous MIME structure',
  ),
  {
    name: 'nul',
    clause: 'RFC 5322 §4.1',
    preset: 'refuse',
    doc: 'The message contains a NUL byte, at which many programs stop reading.',
    text: 'Message contains a NUL byte',
    needs: 'bytes',
    find: ({ bytes }) => when(bytes?.nul === true),
  },
  {
    name: 'long-line',
    clause: 'RFC 5322 §2.1.1',
    preset: 'mark',
    doc: 'A line has more than 998 bytes. (The listener refuses much longer ones.)',
    text: 'Message has a line of more than 998 bytes',
    needs: 'bytes',
    find: ({ bytes }) => when((bytes?.longestLine ?? 0) > maxLine, `${bytes?.longestLine} bytes`),
  },
  {
    name: 'bare-line-end',
    clause: 'RFC 5321 §2.3.8',
    preset: 'off',
    doc: 'A CR or LF stands alone. Off, because `lineEnds` of the listener refuses or normalises them before.',
    text: 'Message contains a bare CR or LF',
    needs: 'line-ends',
    find: ({ bytes }) =>
      when(
        bytes !== undefined && (bytes.bareCr || bytes.bareLf),
        [bytes?.bareCr && 'CR', bytes?.bareLf && 'LF'].filter(Boolean).join(' and '),
      ),
  },
];
