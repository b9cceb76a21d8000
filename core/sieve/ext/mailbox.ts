// Mailboxes: `:create` and mailboxexists, metadata of mailboxes and server (RFC 5490), special uses (RFC 8579),
// mailbox ids (RFC 9042), copies of what is sent (RFC 8580).
import type { Call, Complain } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { HostError } from '../ports.ts';
import { checkMailboxName } from './store-actions.ts';

async function every(
  call: Call,
  names: readonly string[],
  holds: (name: string) => Promise<boolean>,
): Promise<boolean> {
  call.looked(names);
  for (const name of names) {
    call.run.spend(1);
    if (!(await call.run.wait(holds(name)))) return false;
  }
  return true;
}

/** RFC 5490 §3.1: a name that no mailbox can have is no error, it does not exist. */
async function exists(call: Call, name: string): Promise<boolean> {
  const { mailboxes } = call.run.host;
  if (mailboxes.invalidName?.(name) !== undefined) return false;
  try {
    return await (mailboxes.mayStore?.(name) ?? mailboxes.exists(name));
  } catch (error) {
    if (error instanceof HostError && error.kind === 'permanent') return false;
    throw error;
  }
}

const names = { name: 'mailbox names', type: 'string-list' } as const;

export const mailbox = defineExtension({
  name: 'mailbox',
  tests: [
    {
      name: 'mailboxexists',
      arguments: [names],
      run: call => every(call, call.strings('mailbox names'), name => exists(call, name)),
    },
  ],
  tags: [
    {
      // RFC 5490 §3.2
      name: 'create',
      on: ['fileinto'],
      with: ['fcc'],
      apply(entry) {
        entry.arguments['create'] = true;
      },
    },
  ],
});

/** RFC 5464 §3.2: `/private/…` or `/shared/…`, no empty parts, wildcards or controls. */
function checkAnnotation(entry: string, complain: Complain): void {
  if (!/^\/(private|shared)(\/[^/\0-\x1f*%\x7f-\uffff]+)+$/i.test(entry))
    complain(`${quote(entry)} is no name of a metadata entry`);
}

const annotation = { name: 'annotation name', type: 'string', check: checkAnnotation } as const;
const annotations = { name: 'annotation names', type: 'string-list', check: checkAnnotation } as const;
const keys = { name: 'keys', type: 'string-list' } as const;
const mailboxName = { name: 'mailbox', type: 'string', check: checkMailboxName } as const;

const read = async (call: Call, box: string | null, entry: string): Promise<string | undefined> =>
  call.run.wait(call.run.host.mailboxes.metadata?.(box, entry.toLowerCase()) ?? Promise.resolve(undefined));

async function matchMetadata(call: Call, box: string | null) {
  const value = await read(call, box, call.string('annotation name'));
  return call.matches('keys', value === undefined ? [] : [value]);
}

const allPresent = (call: Call, box: string | null) =>
  every(call, call.strings('annotation names'), async entry => (await read(call, box, entry)) !== undefined);

export const mboxmetadata = defineExtension({
  name: 'mboxmetadata',
  tests: [
    {
      name: 'metadata',
      uses: ['match-type', 'comparator'],
      arguments: [mailboxName, annotation, keys],
      run: call => matchMetadata(call, call.string('mailbox')),
    },
    {
      name: 'metadataexists',
      arguments: [mailboxName, annotations],
      run: call => allPresent(call, call.string('mailbox')),
    },
  ],
});

export const servermetadata = defineExtension({
  name: 'servermetadata',
  tests: [
    {
      name: 'servermetadata',
      uses: ['match-type', 'comparator'],
      arguments: [annotation, keys],
      run: call => matchMetadata(call, null),
    },
    { name: 'servermetadataexists', arguments: [annotations], run: call => allPresent(call, null) },
  ],
});

function checkUse(use: string, complain: Complain): void {
  if (!/^\\[^\s\0-\x1f\x7f-\uffff(){%*"\\\]]+$/.test(use))
    complain(`${quote(use)} is no special use such as "\\\\Junk"`);
}

async function hasUse(call: Call, use: string): Promise<boolean> {
  const { mailboxes } = call.run.host;
  const box = call.maybeString('mailbox');
  if (box === undefined) return (await mailboxes.bySpecialUse?.(use)) !== undefined;
  const uses = (await mailboxes.specialUses?.(box)) ?? [];
  return uses.some(other => other.toLowerCase() === use.toLowerCase());
}

export const specialUse = defineExtension({
  name: 'special-use',
  tests: [
    {
      // RFC 8579 §3: all of the uses, of that mailbox or of any
      name: 'specialuse_exists',
      arguments: [
        { name: 'mailbox', type: 'string', optional: true },
        { name: 'uses', type: 'string-list', check: checkUse },
      ],
      run: call => every(call, call.strings('uses'), use => hasUse(call, use)),
    },
  ],
  tags: [
    {
      // RFC 8579 §4
      name: 'specialuse',
      type: 'string',
      check: checkUse,
      on: ['fileinto'],
      with: ['fcc'],
      apply(entry, call) {
        entry.arguments['specialuse'] = call.string('specialuse');
      },
    },
  ],
});

export const mailboxid = defineExtension({
  name: 'mailboxid',
  tests: [
    {
      // RFC 9042 §5
      name: 'mailboxidexists',
      arguments: [{ name: 'mailbox ids', type: 'string-list' }],
      run: call =>
        every(call, call.strings('mailbox ids'), async id => (await call.run.host.mailboxes.byId?.(id)) !== undefined),
    },
  ],
  tags: [
    {
      // RFC 9042 §4: where the id is unknown the mailbox is found by its name.
      name: 'mailboxid',
      type: 'string',
      on: ['fileinto'],
      with: ['fcc'],
      apply(entry, call) {
        entry.arguments['mailboxid'] = call.string('mailboxid');
      },
    },
  ],
});

export const fcc = defineExtension({
  name: 'fcc',
  tags: [
    {
      // RFC 8580 §3
      name: 'fcc',
      type: 'string',
      check: checkMailboxName,
      on: ['vacation', 'notify'],
      apply(entry, call) {
        entry.arguments['fcc'] = call.string('fcc');
      },
    },
  ],
});
