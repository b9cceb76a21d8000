// DSN and DELIVERBY in the envelope and in redirect, RFC 6009.
import type { Complain } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import type { MutableEntry } from '../result.ts';
import { parseRfc3339 } from '../rfc3339.ts';

const given = (value: string | undefined): readonly string[] => (value === undefined ? [] : [value]);

export const envelopeDsn = defineExtension({
  name: 'envelope-dsn',
  implies: ['envelope'],
  envelopeParts: [
    { name: 'notify', addresses: false, read: run => run.envelope.notify ?? [] },
    { name: 'orcpt', addresses: false, read: run => given(run.envelope.orcpt) },
    { name: 'ret', addresses: false, read: run => given(run.envelope.ret) },
    { name: 'envid', addresses: false, read: run => given(run.envelope.envid) },
  ],
});

export const envelopeDeliverby = defineExtension({
  name: 'envelope-deliverby',
  implies: ['envelope'],
  envelopeParts: [
    {
      name: 'bytimeabsolute',
      addresses: false,
      read: ({ envelope: { deliverBy } }) =>
        given(deliverBy && new Date(deliverBy.atMs).toISOString().replace(/\.\d+/, '')),
    },
    {
      name: 'bytimerelative',
      addresses: false,
      read: run =>
        given(
          run.envelope.deliverBy && String(Math.round((run.envelope.deliverBy.atMs - run.host.clock.now()) / 1000)),
        ),
    },
    { name: 'bymode', addresses: false, read: ({ envelope: { deliverBy } }) => given(deliverBy?.mode) },
    {
      name: 'bytrace',
      addresses: false,
      read: ({ envelope: { deliverBy } }) => given(deliverBy && (deliverBy.trace ? 'true' : 'false')),
    },
  ],
});

const conditions = new Set(['never', 'success', 'failure', 'delay']);

// RFC 6009 §3: as NOTIFY of RFC 3461 §4.1
function checkNotify(text: string, complain: Complain): void {
  const list = text
    .toLowerCase()
    .split(',')
    .map(part => part.trim());
  if (list.some(part => !conditions.has(part))) complain(`Unknown condition in :notify ${quote(text)}`);
  else if (list.includes('never') && list.length > 1) complain("Condition 'NEVER' of :notify stands alone");
}

function checkRet(text: string, complain: Complain): void {
  if (!/^(full|hdrs)$/i.test(text)) complain(`Tag ':ret' must be "FULL" or "HDRS", found ${quote(text)}`);
}

const dsnOf = (entry: MutableEntry): Record<string, unknown> => ({ ...(entry.arguments['dsn'] as object | undefined) });

export const redirectDsn = defineExtension({
  name: 'redirect-dsn',
  tags: [
    {
      name: 'notify',
      type: 'string',
      on: ['redirect'],
      check: checkNotify,
      apply(entry, call) {
        const notify = call
          .string('notify')
          .toLowerCase()
          .split(',')
          .map(part => part.trim());
        entry.arguments['dsn'] = { ...dsnOf(entry), notify };
      },
    },
    {
      name: 'ret',
      type: 'string',
      on: ['redirect'],
      check: checkRet,
      apply(entry, call) {
        entry.arguments['dsn'] = { ...dsnOf(entry), ret: call.string('ret').toUpperCase() };
      },
    },
  ],
});

function checkAbsolute(text: string, complain: Complain): void {
  if (parseRfc3339(text) === undefined) complain(`${quote(text)} is no date and time of RFC 3339`);
}

function checkMode(text: string, complain: Complain): void {
  if (!/^[nr]$/i.test(text)) complain(`Tag ':bymode' must be "notify" or "return", found ${quote(text)}`);
}

export const redirectDeliverby = defineExtension({
  name: 'redirect-deliverby',
  tags: [
    {
      name: 'bytimerelative',
      type: 'number',
      group: 'time of delivery',
      on: ['redirect'],
      apply(entry, call) {
        const atMs = call.run.host.clock.now() + call.number('bytimerelative') * 1000;
        entry.arguments['deliverBy'] = { mode: 'N', trace: false, ...(entry.arguments['deliverBy'] as object), atMs };
      },
    },
    {
      name: 'bytimeabsolute',
      type: 'string',
      group: 'time of delivery',
      on: ['redirect'],
      check: checkAbsolute,
      apply(entry, call) {
        const atMs = parseRfc3339(call.string('bytimeabsolute'));
        entry.arguments['deliverBy'] = { mode: 'N', trace: false, ...(entry.arguments['deliverBy'] as object), atMs };
      },
    },
    {
      name: 'bymode',
      type: 'string',
      on: ['redirect'],
      check(text, complain) {
        if (!/^(notify|return)$/i.test(text)) checkMode(text, complain);
      },
      validate: word => needTime(word),
      apply(entry, call) {
        const mode = call.string('bymode')[0]?.toUpperCase();
        entry.arguments['deliverBy'] = { trace: false, ...(entry.arguments['deliverBy'] as object), mode };
      },
    },
    {
      name: 'bytrace',
      on: ['redirect'],
      validate: word => needTime(word),
      apply(entry) {
        entry.arguments['deliverBy'] = { mode: 'N', ...(entry.arguments['deliverBy'] as object), trace: true };
      },
    },
  ],
});

function needTime(word: { has(name: string): boolean; error(message: string): void }): void {
  if (!word.has('bytimerelative') && !word.has('bytimeabsolute'))
    word.error("Tags ':bymode' and ':bytrace' need ':bytimerelative' or ':bytimeabsolute'");
}
