// An IMAP listener over a real Maildir in a folder of its own, with two accounts.
import path from 'node:path';
import type { AuthResult, Directory } from '../../../core/accounts/directory.ts';
import type { ImapListenerOptions } from '../../../core/imap/server.ts';
import { createImapServer } from '../../../core/imap/server.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import type { MailStore } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore } from '../../../core/mailstore/maildir-store.ts';
import type { SessionServer } from '../../../core/net/session-server.ts';
import { type ProtocolFixtureOptions, protocolFixture } from '../../harness/protocol-fixture.ts';

export interface ImapFixture {
  readonly server: SessionServer;
  readonly port: number;
  readonly store: MailStore;
  readonly folder: string;
  /** Lines of level warn and above. */
  readonly complaints: readonly string[];
  close(): Promise<void>;
}

export interface FixtureOptions extends ProtocolFixtureOptions {
  readonly listener?: Partial<ImapListenerOptions>;
  readonly quotaBytes?: number;
  /** Another fixture's store, instead of one of its own. */
  readonly store?: MailStore;
}

/** alice and bob, password `secret`; `down` cannot be looked up. */
function fixtureDirectory(quotaBytes: number | undefined): Directory {
  return {
    async find(name) {
      return { kind: 'found', value: { name, disabled: false } };
    },
    async domains() {
      return { kind: 'found', value: ['example.org'] };
    },
    async authenticate(name, password): Promise<AuthResult> {
      if (name === 'down') return { kind: 'unavailable', why: 'fixture' };
      if (!['alice', 'bob'].includes(name) || password !== 'secret') return { kind: 'refused', why: 'fixture' };
      return { kind: 'ok', account: { name, disabled: false, ...(quotaBytes !== undefined && { quotaBytes }) } };
    },
  };
}

export async function startImap(options: FixtureOptions = {}): Promise<ImapFixture> {
  const parts = await protocolFixture('imap', options);
  const { folder, complaints } = parts;
  const store =
    options.store ?? createMaildirStore({ maildirOf: user => path.join(folder, 'mail', user), clock: systemClock });
  const server = createImapServer({
    ...parts.common,
    listener: {
      ...parts.listener,
      limits: { loginDelayMs: 0, ...options.listener?.limits },
    },
    hostname: 'mail.test',
    spoolDir: path.join(folder, 'spool'),
    directory: fixtureDirectory(options.quotaBytes),
    store,
  });
  await server.listen();
  return {
    server,
    port: server.address.port,
    store,
    folder,
    complaints,
    async close() {
      await server.close(1000);
      await store.close();
      await parts.removeFolder();
    },
  };
}
