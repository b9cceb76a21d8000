// A store in a directory of its own, and messages without a parser: what is tested here are bytes.
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { HeaderList } from '../../../core/mail/headers.ts';
import type { Message } from '../../../core/mail/message.ts';
import type { Rope } from '../../../core/mail/rope.ts';
import type { MailStore } from '../../../core/mailstore/mailbox.ts';
import { createMaildirStore, type MaildirStoreOptions } from '../../../core/mailstore/maildir-store.ts';

interface Teardown {
  teardown(end: () => unknown): unknown;
}

const noHeaders: HeaderList = {
  count: 0,
  size: 0,
  raw: Buffer.alloc(0),
  defects: [],
  get: () => undefined,
  all: () => [],
  has: () => false,
  *[Symbol.iterator]() {},
};

export function plainMessage(rope: Rope): Message {
  const bytes = async (): Promise<Buffer> =>
    Buffer.concat(
      await Promise.all(
        rope.pieces.map(async piece =>
          Buffer.isBuffer(piece) ? piece : (await readFile(piece.file)).subarray(piece.start, piece.end),
        ),
      ),
    );
  return {
    size: rope.size,
    headers: noHeaders,
    bodyStart: 0,
    rope,
    bytes,
    open: () =>
      Readable.from(
        (async function* () {
          yield await bytes();
        })(),
      ),
    mime: () => Promise.reject(new Error('Not needed here')),
  };
}

export const rope = (text: string | Buffer): Rope => {
  const bytes = Buffer.from(text);
  return { size: bytes.length, pieces: [bytes] };
};

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
    const store = createMaildirStore({ maildirOf, openMessage: plainMessage, host: 'mx.test', ...options, ...more });
    stores.push(store);
    return store;
  };
  t.teardown(async () => {
    for (const store of stores) await store.close();
    rmSync(base, { recursive: true, force: true });
  });
  return { base, store: again(), at: (...parts) => path.join(base, 'alice', ...parts), again };
}
