// Test environment, RFC 5183, and its variables namespace `env` (vnd.dovecot.environment).
import type { Run } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { identifier } from './variables.ts';

// RFC 5183 §4.1; `phase`: RFC 5183 §4.1 with RFC 6785 §4.2 for what IMAP adds.
const own: Readonly<Record<string, (run: Run) => string | undefined>> = {
  name: () => 'Postern Sieve',
  version: () => '1',
  host: run => run.setting('hostname'),
  location: run => (run.setting('occasion') === 'delivery' ? 'MDA' : 'MS'),
  phase: run => (run.setting('occasion') === 'delivery' ? 'during' : 'post'),
  // RFC 6785 §4.2: empty at delivery.
  'imap.user': () => '',
  'imap.email': () => '',
  domain: run => domainOf(run.setting('hostname')),
  'vnd.dovecot.default-mailbox': run => run.setting('defaultMailbox'),
  'vnd.dovecot.username': run => run.setting('userAddress'),
};

const domainOf = (host: string): string | undefined =>
  /\.(.+\..+)$/.exec(host)?.[1] ?? (host === '' ? undefined : host);

/** undefined: an unknown item, which matches nothing (RFC 5183 §4). */
function environmentItem(run: Run, item: string): string | undefined {
  const name = item.toLowerCase();
  return run.host.environment?.(name) ?? (Object.hasOwn(own, name) ? own[name]?.(run) : undefined);
}

export const environment = defineExtension({
  name: 'environment',
  tests: [
    {
      name: 'environment',
      uses: ['match-type', 'comparator'],
      arguments: [
        { name: 'item', type: 'string' },
        { name: 'keys', type: 'string-list' },
      ],
      run(call) {
        const value = environmentItem(call.run, call.string('item'));
        return call.matches('keys', value === undefined ? [] : [value]);
      },
    },
  ],
});

export const dovecotEnvironment = defineExtension({
  name: 'vnd.dovecot.environment',
  implies: ['environment'],
  namespaces: [
    {
      name: 'env',
      validate(path, complain) {
        if (path.some(part => !identifier.test(part)))
          complain(`Invalid name of an environment item ${quote(path.join('.'))}`);
      },
      // In variables names have `_` where items have `-`.
      read: (path, run) =>
        environmentItem(run, path.join('.')) ?? environmentItem(run, path.join('.').replaceAll('_', '-')),
    },
  ],
});
