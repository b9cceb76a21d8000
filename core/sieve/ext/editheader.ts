// Actions addheader and deleteheader, RFC 5293. What may not be changed is silently left alone (§6).

import { decodeWords } from '../../mail/encoded-words.ts';
import { renderField } from '../../mail/header-edit.ts';
import type { HeaderField } from '../../mail/headers.ts';
import type { Call, Complain } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { appendField, fromFields } from '../edit-message.ts';
import { defineExtension } from '../extension.ts';
import { checkIndex, pickIndex } from './date.ts';

function checkName(name: string, complain: Complain): void {
  if (!/^[\x21-\x39\x3b-\x7e]{1,76}$/.test(name)) complain(`${quote(name)} is no valid header field name`);
}

// RFC 5293 §4: only what RFC 5322 unstructured allows; line ends must be folds, those at the end are dropped.
function checkValue(value: string, complain: Complain): void {
  const unfolded = value.trim().replace(/\r\n(?=[ \t])/g, '');
  if (/[\0-\x08\x0a-\x1f\x7f]/.test(unfolded))
    complain(`Value ${quote(value)} of a header field holds characters that are not allowed there`);
}

const edits = Symbol('header edits');

function countEdit(call: Call): void {
  const count = call.run.state(edits, () => ({ made: 0 }));
  count.made += 1;
  const limit = call.run.setting('editheader').maxEdits;
  if (count.made > limit) throw call.error(`Script exceeded the policy limit of ${limit} header edits`);
}

// RFC 5293 §6: Subject may always be changed, Received and Auto-Submitted never deleted.
function forbidden(name: string, list: readonly string[], always: readonly string[]): boolean {
  const key = name.toLowerCase();
  return key !== 'subject' && (always.includes(key) || list.some(other => other.toLowerCase() === key));
}

function add(call: Call): void {
  const name = call.string('field name');
  const value = call.string('value').trim();
  const policy = call.run.setting('editheader');
  const size = Buffer.byteLength(name) + Buffer.byteLength(value);
  if (size > policy.maxFieldBytes)
    throw call.error(`Value of header field ${quote(name)} exceeds the policy limit of ${policy.maxFieldBytes} bytes`);
  if (forbidden(name, policy.forbidAdd, [])) return;
  countEdit(call);
  const { message } = call.run;
  call.run.spend(1 + (message.headers.size >> 8));
  const edited = call.has('last')
    ? appendField(message, name, value)
    : fromFields(message, [renderField(name, value), ...message.headers]);
  call.run.replaceMessage(edited);
}

async function remove(call: Call): Promise<void> {
  const name = call.string('field name');
  if (forbidden(name, call.run.setting('editheader').forbidDelete, ['received', 'auto-submitted'])) return;
  const { message } = call.run;
  const all = message.headers.all(name);
  const index = call.maybeNumber('index');
  const candidates = index === undefined ? all : pickIndex(all, index, call.has('last'));
  const gone = new Set<HeaderField>();
  const patterns = call.maybeStrings('value patterns');
  const { captures } = call.run;
  call.run.captures = undefined;
  for (const field of candidates)
    if (!patterns || (await call.matches(patterns, [decodeWords(field.value).trim()]))) gone.add(field);
  call.run.captures = captures;
  if (gone.size === 0) return;
  countEdit(call);
  call.run.spend(1 + (message.headers.size >> 8));
  const rest = [...message.headers].filter(field => !gone.has(field));
  call.run.replaceMessage(fromFields(message, rest));
}

const fieldName = { name: 'field name', type: 'string', check: checkName } as const;

export const editheader = defineExtension({
  name: 'editheader',
  commands: [
    {
      name: 'addheader',
      tags: [{ name: 'last' }],
      arguments: [fieldName, { name: 'value', type: 'string', check: checkValue }],
      run: add,
    },
    {
      name: 'deleteheader',
      uses: ['match-type', 'comparator'],
      tags: [{ name: 'index', type: 'number', validate: checkIndex }, { name: 'last' }],
      arguments: [fieldName, { name: 'value patterns', type: 'string-list', optional: true }],
      validate(word) {
        if (word.has('last') && !word.has('index')) word.error("Tag ':last' needs ':index'", 'last');
      },
      run: remove,
    },
  ],
});
