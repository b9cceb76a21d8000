// A POP3 listener over a real Maildir in a folder of its own.
import path from 'node:path';
import { systemClock } from '../../../core/lib/clock.ts';
import { bufferRope } from '../../../core/mail/rope.ts';
import type { MailStore } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore } from '../../../core/mailstore/maildir-store.ts';
import type { SessionServer } from '../../../core/net/session-server.ts';
import { createPop3Server, type Pop3ServerOptions } from '../../../core/pop3/server.ts';
import { testAccounts } from '../../harness/accounts.ts';
import { type ProtocolFixtureOptions, protocolFixture } from '../../harness/protocol-fixture.ts';

export interface Pop3Fixture {
  readonly server: SessionServer;
  readonly port: number;
  readonly store: MailStore;
  readonly folder: string;
  /** Lines of level warn and above. */
  readonly complaints: readonly string[];
  /** Into alice's INBOX unless told otherwise; LF becomes CRLF. */
  deliver(text: string, user?: string): Promise<void>;
  /** What is in the INBOX now, oldest first. */
  inbox(user?: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

export interface Pop3FixtureOptions extends ProtocolFixtureOptions {
  readonly options?: Pop3ServerOptions['options'];
  readonly limits?: Pop3ServerOptions['limits'];
  /** The store as the server sees it. */
  readonly over?: (store: MailStore) => MailStore;
}

export async function startPop3(given: Pop3FixtureOptions = {}): Promise<Pop3Fixture> {
  const parts = await protocolFixture('pop3', given);
  const { folder, complaints } = parts;
  const accounts = testAccounts(folder);
  const store = createMaildirStore({ maildirOf: user => path.join(folder, 'mail', user), clock: systemClock });
  const server = createPop3Server({
    ...parts.common,
    listener: parts.listener,
    hostname: 'mail.test',
    directory: accounts.directory,
    store: given.over?.(store) ?? store,
    ...(given.options && { options: given.options }),
    ...(given.limits && { limits: given.limits }),
  });
  await server.listen();
  return {
    server,
    port: server.address.port,
    store,
    folder,
    complaints,
    async deliver(text, user = 'alice@example.org') {
      const [result] = await store.deliver(bufferRope(Buffer.from(text.replace(/\r?\n/g, '\r\n'))), [{ user }]);
      if (result?.kind !== 'stored') throw new Error(`Not delivered: ${JSON.stringify(result)}`);
    },
    async inbox(user = 'alice@example.org') {
      const mail = await store.user(user);
      const mailbox = await mail.open('INBOX');
      await mailbox.sync();
      const texts: string[] = [];
      for (const { uid } of mailbox.records) {
        const message = await mailbox.message(uid);
        if (message) texts.push((await message.bytes()).toString());
      }
      await mailbox.close();
      mail.release();
      return texts;
    },
    async close() {
      await server.close(1000);
      await store.close();
      await accounts.close();
      await parts.removeFolder();
    },
  };
}
