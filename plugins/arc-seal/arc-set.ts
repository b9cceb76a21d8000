// One more ARC set for a message (RFC 8617 §5.1): what was found out about it, a signature over it as it leaves, and a seal over
// all sets.
import type { KeyObject } from 'node:crypto';
import {
  type AuthResult,
  fieldsToSign,
  formatAuthResults,
  type HeaderList,
  relaxedField,
  renderField,
  signatureAlgorithm,
  signedValue,
} from '../../core/plugin/index.ts';

export type ChainStatus = 'none' | 'pass' | 'fail';

/** In the order in which a seal covers them (RFC 8617 §5.1.1). */
const setFields = ['arc-authentication-results', 'arc-message-signature', 'arc-seal'] as const;
/** RFC 8617 §4.2.1. */
const maxInstance = 50;

/** RFC 8617 §4.1.2: no ARC fields, and not what the next hop will remove. */
const signedNames = [
  'from', 'sender', 'reply-to', 'subject', 'date', 'message-id', 'to', 'cc', 'mime-version', 'content-type', 'content-transfer-encoding', 'in-reply-to', 'references', 'list-id', 'list-unsubscribe', 'list-unsubscribe-post', 'list-post', 'dkim-signature',
]; // biome-ignore format: a list

const instanceOf = (value: string): number => Number(/(?:^|;)\s*i\s*=\s*(\d{1,2})\s*(?:;|$)/.exec(value)?.[1] ?? 0);
const sealStatus = (value: string): string => /(?:^|;)\s*cv\s*=\s*(\w+)/i.exec(value)?.[1]?.toLowerCase() ?? '';

/** Instance of the set to come; undefined where the message must not be sealed (§5.1 step 2, §4.2.1) or cannot be. */
export function nextInstance(headers: HeaderList, status: ChainStatus): number | undefined {
  const instances = setFields.flatMap(name => headers.all(name).map(({ value }) => instanceOf(value)));
  const highest = Math.max(0, ...instances);
  if (status === 'none') return instances.length === 0 ? 1 : undefined;
  const newest = headers.all('arc-seal').find(({ value }) => instanceOf(value) === highest);
  if (highest === 0 || highest >= maxInstance || !newest || sealStatus(newest.value) === 'fail') return undefined;
  return highest + 1;
}

/** Canonical fields of the sets before; undefined where one of them is missing or doubled. */
function olderSets(headers: HeaderList, before: number): readonly string[] | undefined {
  const covered: string[] = [];
  for (let instance = 1; instance <= before; instance++)
    for (const name of setFields) {
      const [field, ...more] = headers.all(name).filter(({ value }) => instanceOf(value) === instance);
      if (!field || more.length > 0) return undefined;
      covered.push(relaxedField(field.raw));
    }
  return covered;
}

export interface SealRequest {
  readonly headers: HeaderList;
  readonly bodyHash: string;
  readonly status: ChainStatus;
  readonly instance: number;
  readonly authservId: string;
  readonly results: readonly AuthResult[];
  readonly domain: string;
  readonly selector: string;
  readonly key: KeyObject;
  /** Seconds. */
  readonly now: number;
}

type NewField = readonly [name: string, value: string];

/** The three fields, lowest first. */
export function makeArcSet(request: SealRequest): readonly NewField[] | undefined {
  const { headers, instance, status, key, domain, selector, now } = request;
  // §5.1.2: the seal of a failed chain covers its own set only.
  const older = status === 'pass' ? olderSets(headers, instance - 1) : [];
  if (!older) return undefined;
  const algorithm = signatureAlgorithm(key);
  const fields = fieldsToSign(headers, signedNames);
  // What others wrote stands in the results too: beyond ASCII it would be encoded, and then another text be sealed.
  const results = formatAuthResults(request.authservId, request.results).replace(/[^\t\r\n\x20-\x7e]/g, '?');
  const aar: NewField = ['ARC-Authentication-Results', `i=${instance}; ${results}`];
  const ams: NewField = [
    'ARC-Message-Signature',
    signedValue(
      'ARC-Message-Signature',
      [
        ['i', String(instance)],
        ['a', algorithm],
        ['c', 'relaxed/relaxed'],
        ['d', domain],
        ['s', selector],
        ['t', String(now)],
        ['h', fields.names.join(':')],
        ['bh', request.bodyHash],
      ],
      fields.canonical,
      key,
    ),
  ];
  const own = [aar, ams].map(([name, value]) => relaxedField(renderField(name, value)).replace(/\r\n$/, ''));
  const tags = [
    ['i', String(instance)],
    ['a', algorithm],
    ['t', String(now)],
    ['cv', status],
    ['d', domain],
    ['s', selector],
  ] as const;
  return [aar, ams, ['ARC-Seal', signedValue('ARC-Seal', tags, [...older, ...own], key)]];
}
