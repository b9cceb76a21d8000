// Tests, RFC 5228 §5, without those that need `require`.

import type { HeaderField } from '../../mail/headers.ts';
import type { HeaderAddress } from '../addresses.ts';
import { parseAddressList } from '../addresses.ts';
import type { Call, Complain, Later } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';

const fieldName = /^[\x21-\x39\x3b-\x7e]+$/;

/** RFC 5228 §2.4.2.2: an invalid name is no error, there is just no such field. */
export function checkFieldName(name: string, complain: Complain): void {
  if (!fieldName.test(name)) complain(`Header field name ${quote(name)} is invalid and never found`, 'warning');
}

// RFC 5228 §5.1: the test MUST be restricted to fields that hold addresses.
const addressFields = new Set([
  ...['from', 'to', 'cc', 'bcc', 'sender', 'reply-to', 'resent-from', 'resent-to', 'resent-cc', 'resent-bcc'],
  ...['resent-sender', 'resent-reply-to', 'return-path', 'delivered-to', 'x-original-to', 'envelope-to'],
  ...['x-delivered-to', 'x-envelope-to', 'x-envelope-from', 'x-resent-to', 'x-resent-cc', 'x-resent-bcc'],
  ...[
    'errors-to',
    'return-receipt-to',
    'disposition-notification-to',
    'mail-followup-to',
    'mail-reply-to',
    'apparently-to',
    'approved-by',
    'envelope-from',
    'original-from',
    'original-recipient',
    'final-recipient',
    'abuse-reports-to',
  ],
]);
export function checkAddressField(name: string, complain: Complain): void {
  checkFieldName(name, complain);
  const key = name.toLowerCase();
  // What a private field holds is not for us to know.
  if (fieldName.test(name) && !addressFields.has(key) && !key.startsWith('x-'))
    complain(`Header field ${quote(name)} is not allowed for test 'address': it holds no addresses, use test 'header'`);
}

/** The parts of addresses that this call compares, an address without the part left out. */
export function addressParts(call: Call, addresses: readonly HeaderAddress[]): string[] {
  const out: string[] = [];
  for (const address of addresses) {
    const part =
      address.valid || call.word.addressPart === undefined ? call.addressPart(address) : partOfInvalid(call, address);
    if (part !== undefined) out.push(part);
  }
  return out;
}

const partOfInvalid = (call: Call, address: HeaderAddress): string | undefined =>
  call.word.addressPart?.name === 'all' ? address.text : undefined;

function addressTest(call: Call): Later<boolean> {
  const fields = call.fields(call.strings('header names'));
  return fields instanceof Promise ? fields.then(found => matchAddresses(call, found)) : matchAddresses(call, fields);
}

function matchAddresses(call: Call, fields: readonly HeaderField[]): Later<boolean> {
  const values: string[] = [];
  for (const field of fields) {
    call.run.spend(1 + (field.value.length >> 6));
    values.push(...(call.readField(field) ?? addressParts(call, parseAddressList(field.value))));
  }
  return call.matches('keys', values);
}

export const basicTests = defineExtension({
  name: 'basic tests',
  always: true,
  hidden: true,
  tests: [
    { name: 'true', constant: () => true, run: () => true },
    { name: 'false', constant: () => false, run: () => false },
    {
      name: 'not',
      tests: 'one',
      constant: (_, [test]) => (test === undefined ? undefined : !test),
      run(call) {
        const met = call.test();
        return typeof met === 'boolean' ? !met : met.then(value => !value);
      },
    },
    {
      name: 'allof',
      tests: 'list',
      settles: false,
      constant: (_, tests) => (tests.includes(false) ? false : tests.every(test => test === true) ? true : undefined),
      run: call => until(call, false, 0),
    },
    {
      name: 'anyof',
      tests: 'list',
      settles: true,
      constant: (_, tests) => (tests.includes(true) ? true : tests.every(test => test === false) ? false : undefined),
      run: call => until(call, true, 0),
    },
    {
      // RFC 5228 §5.1
      name: 'address',
      uses: ['match-type', 'comparator', 'address-part'],
      arguments: [
        { name: 'header names', type: 'string-list', check: checkAddressField },
        { name: 'keys', type: 'string-list' },
      ],
      run: addressTest,
    },
    {
      // RFC 5228 §5.7
      name: 'header',
      uses: ['match-type', 'comparator'],
      arguments: [
        { name: 'header names', type: 'string-list', check: checkFieldName },
        { name: 'keys', type: 'string-list' },
      ],
      run(call) {
        const values = call.fieldValues(call.strings('header names'));
        return values instanceof Promise
          ? values.then(found => call.matches('keys', found))
          : call.matches('keys', values);
      },
    },
    {
      // RFC 5228 §5.5: all of them
      name: 'exists',
      arguments: [{ name: 'header names', type: 'string-list', check: checkFieldName }],
      run: call => allExist(call, call.strings('header names'), 0),
    },
    {
      // RFC 5228 §5.9
      name: 'size',
      tags: [
        { name: 'over', group: 'limit' },
        { name: 'under', group: 'limit' },
      ],
      arguments: [{ name: 'limit', type: 'number' }],
      validate(word) {
        if (!word.has('over') && !word.has('under')) word.error("Test 'size' needs ':over' or ':under'");
      },
      run(call) {
        const { size } = call.run.message;
        call.looked([String(size)]);
        return call.has('over') ? size > call.number('limit') : size < call.number('limit');
      },
    },
  ],
});

/** Sub-tests from left to right until one has the value that settles it; no more than needed (RFC 5229 §3.2). */
function until(call: Call, settles: boolean, from: number): boolean | Promise<boolean> {
  for (let at = from; at < call.testCount; at += 1) {
    const met = call.test(at);
    if (typeof met === 'boolean') {
      if (met === settles) return settles;
    } else return met.then(value => (value === settles ? settles : until(call, settles, at + 1)));
  }
  return !settles;
}

function allExist(call: Call, names: readonly string[], from: number): boolean | Promise<boolean> {
  for (let at = from; at < names.length; at += 1) {
    const fields = call.fields([names[at] as string]);
    if (fields instanceof Promise) return fields.then(found => found.length > 0 && allExist(call, names, at + 1));
    if (fields.length === 0) return false;
  }
  return true;
}
