// Annotations of mailboxes and of the server (RFC 5464), kept in the state store: IMAP sets them, rules read them. No
// mailbox is shared here, so that `/shared` and `/private` are both one user's.
import type { Clock } from '../lib/clock.ts';
import { createReadCache } from '../lib/read-cache.ts';
import type { Migration, State, Statement } from '../state/state.ts';

export interface Metadata {
  /** Entries of a mailbox (Unicode name, `INBOX`), or with `''` of the server; names in lower case. */
  entries(user: string, mailbox: string): Promise<ReadonlyMap<string, Buffer>>;
  /** All or none; undefined removes. Rejects with `MetadataError`. */
  set(user: string, mailbox: string, changes: ReadonlyMap<string, Buffer | undefined>): Promise<void>;
  /** RFC 5464 §4.1: they follow their mailbox and those below it, but for INBOX, which keeps its own. */
  rename(user: string, from: string, to: string): Promise<void>;
  remove(user: string, mailbox: string): Promise<void>;
}

export class MetadataError extends Error {
  override readonly name = 'MetadataError';
  readonly code: 'maxsize' | 'toomany';
  constructor(code: MetadataError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** RFC 5464 §4.1: at least 1024 bytes and 10 entries. */
export const metadataLimits = { valueBytes: 16 * 1024, entries: 100, userBytes: 256 * 1024 } as const;

const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE metadata (
        account TEXT NOT NULL, mailbox TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (account, mailbox, name))`,
    ],
  },
];
const none: ReadonlyMap<string, Buffer> = new Map();

type Known = ReadonlyMap<string, ReadonlyMap<string, Buffer>>;

export async function openMetadata(state: State, clock: Clock): Promise<Metadata> {
  await state.migrate('metadata', schema);
  const read = createReadCache<Known>({ clock, keepMs: 2000, maxKeys: 1000 });

  async function load(user: string): Promise<Known> {
    const rows = await state.query('SELECT mailbox, name, value FROM metadata WHERE account = ? ORDER BY name', [user]);
    const known = new Map<string, Map<string, Buffer>>();
    for (const row of rows) {
      const mailbox = String(row['mailbox']);
      const entries = known.get(mailbox) ?? new Map<string, Buffer>();
      known.set(mailbox, entries.set(String(row['name']), Buffer.from(row['value'] as Uint8Array)));
    }
    return known;
  }

  const all = (user: string): Promise<Known> => read.get(user, () => load(user));

  async function write(user: string, statements: readonly Statement[]): Promise<void> {
    if (statements.length === 0) return;
    await read.changing(user, () => state.write(statements));
  }

  return {
    async entries(user, mailbox) {
      return (await all(user)).get(mailbox) ?? none;
    },
    async set(user, mailbox, changes) {
      const known = await load(user);
      const next = new Map(known.get(mailbox));
      for (const [name, value] of changes) {
        if (value === undefined) next.delete(name);
        else if (value.length > metadataLimits.valueBytes)
          throw new MetadataError('maxsize', `A value has at most ${metadataLimits.valueBytes} bytes`);
        else next.set(name, value);
      }
      const bytes = [...new Map([...known, [mailbox, next]]).values()]
        .flatMap(entries => [...entries])
        .reduce((sum, [name, value]) => sum + name.length + value.length, 0);
      if (next.size > metadataLimits.entries || bytes > metadataLimits.userBytes)
        throw new MetadataError('toomany', 'There are too many entries');
      await write(
        user,
        [...changes].map(([name, value]) =>
          value === undefined
            ? {
                sql: 'DELETE FROM metadata WHERE account = ? AND mailbox = ? AND name = ?',
                params: [user, mailbox, name],
              }
            : {
                sql: `INSERT INTO metadata VALUES (?, ?, ?, ?)
                  ON CONFLICT (account, mailbox, name) DO UPDATE SET value = excluded.value`,
                params: [user, mailbox, name, value],
              },
        ),
      );
    },
    async rename(user, from, to) {
      const known = await load(user);
      const moved = [...known].filter(([name]) => name === from || (from !== 'INBOX' && name.startsWith(`${from}/`)));
      await write(
        user,
        moved.flatMap(([name, entries]) => [
          ...(from === 'INBOX' ? [] : [removal(user, name)]),
          ...[...entries].map(([entry, value]) => ({
            sql: 'INSERT OR REPLACE INTO metadata VALUES (?, ?, ?, ?)',
            params: [user, to + name.slice(from.length), entry, value],
          })),
        ]),
      );
    },
    remove: (user, mailbox) => write(user, [removal(user, mailbox)]),
  };
}

const removal = (user: string, mailbox: string): Statement => ({
  sql: 'DELETE FROM metadata WHERE account = ? AND mailbox = ?',
  params: [user, mailbox],
});
