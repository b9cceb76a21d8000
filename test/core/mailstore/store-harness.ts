// A store in a directory of its own.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bufferRope, type Rope } from '../../../core/mail/rope.ts';
import type { MailStore } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore, type MaildirStoreOptions } from '../../../core/mailstore/maildir-store.ts';

interface Teardown {
  teardown(end: () => unknown): unknown;
}

export const rope = (text: string | Buffer): Rope => bufferRope(Buffer.from(text));

export const mail = (subject: string, lines = 3): string =>
  `From: a@example.org\r\nSubject: ${subject}\r\n\r\n${'A line of text.\r\n'.repeat(lines)}`;

export interface TestStore {
  readonly base: string;
  readonly store: MailStore;
  /** Path inside alice's Maildir. */
  at(...parts: readonly string[]): string;
  /** Another store on the same files, as another process would have it. */
  again(options?: Partial<MaildirStoreOptions>): MailStore;
}

export function openStore(t: Teardown, options: Partial<MaildirStoreOptions> = {}): TestStore {
  const base = mkdtempSync(path.join(tmpdir(), 'postern-mail-'));
  const maildirOf = (user: string): string => path.join(base, user);
  const stores: MailStore[] = [];
  const again = (more: Partial<MaildirStoreOptions> = {}): MailStore => {
    const store = createMaildirStore({ maildirOf, host: 'mx.test', ...options, ...more });
    stores.push(store);
    return store;
  };
  t.teardown(async () => {
    for (const store of stores) await store.close();
    rmSync(base, { recursive: true, force: true });
  });
  return { base, store: again(), at: (...parts) => path.join(base, 'alice', ...parts), again };
}
