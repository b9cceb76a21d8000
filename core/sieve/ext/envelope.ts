// Test envelope, RFC 5228 §5.4; subaddress, RFC 5233; other extensions add parts (RFC 6009).

import type { HeaderAddress } from '../addresses.ts';
import { parseAddressList } from '../addresses.ts';
import type { Call, Complain, EnvelopePartDefinition, ExtensionDefinition, Unit } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { addressParts } from './basic-tests.ts';
import { refuseInImap } from './imapsieve.ts';

const given = (value: string | undefined): readonly string[] => (value === undefined ? [] : [value]);

const baseParts: readonly EnvelopePartDefinition[] = [
  { name: 'from', addresses: true, read: run => [run.envelope.from] },
  { name: 'to', addresses: true, read: run => [run.envelope.to] },
  { name: 'auth', addresses: false, read: run => given(run.envelope.auth) },
  { name: 'orig_to', addresses: true, read: run => given(run.envelope.originalTo) },
];

/** RFC 5228 §5.4: the null sender is the empty string, whatever part of it is asked for. */
function valuesOf(call: Call, part: EnvelopePartDefinition): readonly string[] {
  const texts = part.read(call.run);
  if (!part.addresses) return texts;
  return texts.flatMap(text => {
    if (text === '' || text.trim() === '<>') return [''];
    return addressParts(call, [envelopeAddress(text)]);
  });
}

function envelopeAddress(text: string): HeaderAddress {
  const [only, ...more] = parseAddressList(text);
  return only?.valid && more.length === 0 ? only : { local: '', domain: '', text, valid: false };
}

function partOf(name: string, extensions: Iterable<ExtensionDefinition>): EnvelopePartDefinition | undefined {
  const key = name.toLowerCase();
  for (const extension of extensions) {
    const part = extension.envelopeParts?.find(candidate => candidate.name === key);
    if (part) return part;
  }
  return undefined;
}

function checkPart(name: string, complain: Complain, unit: Unit | undefined): void {
  if (!unit || partOf(name, unit.extensions)) return;
  const other = [...unit.registry.extensions.values()].find(extension => partOf(name, [extension]));
  if (other) complain(`Envelope part ${quote(name)} needs 'require "${other.name}";' at the top of the script`);
  else complain(`Unknown envelope part ${quote(name)}`);
}

export const envelope = defineExtension({
  name: 'envelope',
  envelopeParts: baseParts,
  tests: [
    {
      name: 'envelope',
      uses: ['match-type', 'comparator', 'address-part'],
      arguments: [
        { name: 'envelope parts', type: 'string-list', check: checkPart },
        { name: 'keys', type: 'string-list' },
      ],
      run(call) {
        refuseInImap(call);
        const parts = call.strings('envelope parts').map(name => partOf(name, call.run.program.extensions));
        return call.matches(
          'keys',
          parts.flatMap(part => (part ? valuesOf(call, part) : [])),
        );
      },
    },
  ],
});

function delimiterAt(local: string, delimiters: string): number {
  let first = -1;
  for (const delimiter of delimiters) {
    const at = local.indexOf(delimiter);
    if (at !== -1 && (first === -1 || at < first)) first = at;
  }
  return first;
}

export const subaddress = defineExtension({
  name: 'subaddress',
  addressParts: [
    {
      name: 'user',
      part(address, run) {
        const at = delimiterAt(address.local, run.setting('recipientDelimiter'));
        return at === -1 ? address.local : address.local.slice(0, at);
      },
    },
    {
      // RFC 5233 §4: without a delimiter there is no detail, and no match; an empty one is the empty string.
      name: 'detail',
      part(address, run) {
        const at = delimiterAt(address.local, run.setting('recipientDelimiter'));
        return at === -1 ? undefined : address.local.slice(at + 1);
      },
    },
  ],
});
