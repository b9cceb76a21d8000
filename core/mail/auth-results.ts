// Authentication-Results: RFC 8601. Written for those behind us, and read to find the fields that somebody outside wrote
// in our name, which must go before ours is added (§5).
import { parseDomain } from './address.ts';
import type { HeaderList } from './headers.ts';

export interface AuthResult {
  /** e.g. `spf`, `dkim`, `dmarc`, `arc`, `iprev`, `auth`. */
  readonly method: string;
  /** e.g. `pass`, `fail`, `none`, `temperror`. */
  readonly result: string;
  readonly reason?: string;
  /** A comment behind the result. */
  readonly comment?: string;
  /** e.g. `['smtp.mailfrom', 'example.org']` (§2.3). */
  readonly properties: readonly (readonly [name: string, value: string])[];
}

export interface AuthResults {
  /** Lower case. */
  readonly authservId: string;
  readonly results: readonly AuthResult[];
}

const token = /^[^\x00-\x20\x7f()<>@,;:\\"/[\]?=]+$/;
// RFC 8601 §2.2: a pvalue may also be an address or domain, `@` and `/` included.
const pvalue = /^[^\x00-\x20\x7f()<>,;:\\"[\]?=]+$/;

const clean = (text: string): string => text.replace(/[\x00-\x1f\x7f]/g, ' ');
const quote = (text: string, plain: RegExp): string =>
  plain.test(text) ? text : `"${clean(text).replace(/["\\]/g, '\\$&')}"`;
const comment = (text: string): string => ` (${clean(text).replace(/[()\\]/g, '\\$&')})`;

function formatResult({ method, result, reason, properties, ...more }: AuthResult): string {
  return [
    `${method}=${result}${more.comment ? comment(more.comment) : ''}`,
    ...(reason ? [`reason=${quote(reason, token)}`] : []),
    ...properties.map(([name, value]) => `${name}=${quote(value, pvalue)}`),
  ].join(' ');
}

/** The value of the field, one result per line; `none` where nothing was checked (§2.2). */
export function formatAuthResults(authservId: string, results: readonly AuthResult[]): string {
  const list = results.length === 0 ? ['none'] : results.map(formatResult);
  return `${quote(authservId, token)};\r\n\t${list.join(';\r\n\t')}`;
}

interface Token {
  readonly kind: 'word' | 'quoted' | 'comment' | ';' | '=';
  readonly text: string;
}

function lexComment(value: string, open: number): number {
  let depth = 0;
  for (let at = open; at < value.length; at++) {
    if (value[at] === '\\') at++;
    else if (value[at] === '(') depth++;
    else if (value[at] === ')' && --depth === 0) return at + 1;
  }
  return value.length;
}

function lex(value: string): readonly Token[] {
  const tokens: Token[] = [];
  const pattern = /\s+|"((?:[^"\\]|\\.)*)"?|([;=])|([^\s";=(]+)/gsy;
  for (let at = 0; at < value.length; at = pattern.lastIndex) {
    pattern.lastIndex = at;
    const match = value[at] === '(' ? null : pattern.exec(value);
    if (!match) {
      const end = lexComment(value, at);
      tokens.push({ kind: 'comment', text: value.slice(at + 1, end - 1) });
      pattern.lastIndex = end;
    } else if (match[1] !== undefined) tokens.push({ kind: 'quoted', text: match[1].replace(/\\(.)/gs, '$1') });
    else if (match[2] !== undefined) tokens.push({ kind: match[2] as ';' | '=', text: match[2] });
    else if (match[3] !== undefined) tokens.push({ kind: 'word', text: match[3] });
  }
  return tokens;
}

/** One `method=result …` group; undefined where it is none. */
function readResult(tokens: readonly Token[]): AuthResult | undefined {
  const pairs: [string, string][] = [];
  let note: string | undefined;
  for (const [at, { kind, text }] of tokens.entries()) {
    if (kind === 'comment') note ??= text;
    const value = tokens[at + 1]?.kind === '=' ? tokens[at + 2] : undefined;
    if (kind === 'word' && value && (value.kind === 'word' || value.kind === 'quoted')) pairs.push([text, value.text]);
  }
  const [first, ...rest] = pairs;
  if (!first) return undefined;
  const reason = rest.find(([name]) => name.toLowerCase() === 'reason')?.[1];
  return {
    method: (first[0].split('/', 1)[0] ?? '').toLowerCase(),
    result: first[1].toLowerCase(),
    properties: rest.filter(([name]) => name.toLowerCase() !== 'reason'),
    ...(reason === undefined ? {} : { reason }),
    ...(note === undefined ? {} : { comment: note }),
  };
}

/** Undefined where the field names no authserv-id. Results that cannot be read are left out. */
export function parseAuthResults(value: string): AuthResults | undefined {
  const groups: Token[][] = [[]];
  for (const item of lex(value)) {
    if (item.kind === ';') groups.push([]);
    else groups.at(-1)?.push(item);
  }
  const [head = [], ...rest] = groups;
  const id = head.find(({ kind }) => kind === 'word' || kind === 'quoted');
  if (!id) return undefined;
  const results = rest.map(readResult).filter(result => result !== undefined);
  return { authservId: id.text.toLowerCase(), results };
}

/** One spelling for ids that mean the same: domains compare as domains, U-labels as A-labels, without a final dot. */
const canonicalId = (id: string): string => parseDomain(id.replace(/\.$/, '')) ?? id.toLowerCase();

/**
 * Which Authentication-Results fields, counted from the top, claim to be ours (§5: remove them from a message that
 * comes from outside). Fields that cannot be read claim nothing, since no reader will trust them either.
 */
export function claimedAuthResults(headers: HeaderList, authservId: string): readonly number[] {
  const ours = canonicalId(authservId);
  return headers.all('authentication-results').flatMap((field, index) => {
    const id = parseAuthResults(field.value)?.authservId;
    return id !== undefined && canonicalId(id) === ours ? [index] : [];
  });
}
