// `mailto:` URIs, RFC 6068 (and RFC 2368, which RFC 5436 names).
import { parseAddressList } from './addresses.ts';
import type { Field } from './compose.ts';

export interface Mailto {
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly subject?: string;
  readonly body?: string;
  /** Others that may be set. */
  readonly fields: readonly Field[];
}

// RFC 5436 §2.7: unsafe, or made by the notification itself
const ignored = new Set([
  ...['from', 'auto-submitted', 'received', 'message-id', 'date', 'bcc', 'sender', 'reply-to', 'return-path'],
  ...['mime-version', 'content-type', 'content-transfer-encoding', 'content-disposition', 'importance', 'x-priority'],
  ...['resent-from', 'resent-to', 'resent-date', 'dkim-signature', 'references'],
]);
const maxFields = 16;

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined; // URIError: broken percent encoding
  }
}

/** A sentence where the URI is wrong. */
export function parseMailto(uri: string): Mailto | string {
  const found = /^mailto:([^?#]*)(?:\?([^#]*))?$/i.exec(uri);
  if (!found || /[\s<>"{}|\\^`\0-\x20\x7f]/.test(uri))
    return `Notification method '${uri.slice(0, 60)}' is not a valid mailto URI`;
  const to: string[] = [];
  const cc: string[] = [];
  const fields: Field[] = [];
  let subject: string | undefined;
  let body: string | undefined;
  const bad = addAddresses(to, found[1] ?? '');
  if (bad !== undefined) return bad;
  for (const pair of (found[2] ?? '').split('&').filter(text => text !== '')) {
    const equals = pair.indexOf('=');
    const name = equals === -1 ? undefined : decode(pair.slice(0, equals))?.toLowerCase();
    const value = decode(pair.slice(equals + 1));
    if (name === undefined || value === undefined || !/^[\x21-\x39\x3b-\x7e]{1,76}$/.test(name))
      return `Notification method '${uri.slice(0, 60)}' has an invalid header field`;
    const fault =
      name === 'to'
        ? addAddresses(to, pair.slice(equals + 1))
        : name === 'cc'
          ? addAddresses(cc, pair.slice(equals + 1))
          : undefined;
    if (fault !== undefined) return fault;
    if (name === 'subject') subject = value;
    else if (name === 'body') body = value;
    else if (name !== 'to' && name !== 'cc' && !ignored.has(name) && fields.length < maxFields)
      fields.push([name.charAt(0).toUpperCase() + name.slice(1), value]);
  }
  return { to, cc, fields, ...(subject === undefined ? {} : { subject }), ...(body === undefined ? {} : { body }) };
}

function addAddresses(into: string[], encoded: string): string | undefined {
  const text = decode(encoded);
  const list = text === undefined ? undefined : parseAddressList(text);
  if (!list || list.some(address => !address.valid))
    return `'${encoded.slice(0, 60)}' in the mailto URI is not a valid address`;
  for (const { text: address } of list) if (!into.includes(address)) into.push(address);
  return undefined;
}
