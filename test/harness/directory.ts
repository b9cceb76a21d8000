// A copy of a directory as a gateway keeps it, read only when a test says so.
import { type Logger, pino } from 'pino';
import { systemClock } from '../../core/lib/clock.ts';
import { connectLdap, type LdapOptions } from '../../core/net/ldap.ts';
import { openDirectory, type RecipientDirectory } from '../../core/recipients/directory.ts';
import { openDirectoryStore } from '../../core/recipients/directory-store.ts';
import type { State } from '../../core/state/state.ts';

const never = 3_600_000;

/** `base` absent: the naming context that the server tells. */
export const openTestDirectory = (
  state: State,
  ldap: LdapOptions,
  { base, log = pino({ level: 'silent' }) }: { readonly base?: string | undefined; readonly log?: Logger } = {},
): Promise<RecipientDirectory> =>
  openDirectory({
    options: {
      name: 'corp',
      ...(base === undefined ? {} : { base }),
      filter: '(proxyAddresses=*)',
      attributes: ['proxyAddresses'],
      intervalMs: never,
      resyncMs: never,
      delimiter: '+',
    },
    store: openDirectoryStore(state, 'corp'),
    clock: systemClock,
    log,
    connect: async signal => ({ server: ldap.url, connection: await connectLdap(ldap, signal) }),
  });
