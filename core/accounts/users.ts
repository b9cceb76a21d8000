// The gateway's own accounts, in the state store. A change is visible to logins at once and to `find` within
// `findCacheMs` in other processes; an account that is missing is always looked up, so a new one is never refused.
import type { Clock } from '../lib/clock.ts';
import { createReadCache } from '../lib/read-cache.ts';
import type { Migration, Row, SqlValue, State } from '../state/state.ts';
import { parseAccountName } from './account-name.ts';
import type { AuthLimits } from './auth-limits.ts';
import { makeAuthenticator, type StoredAccount, toAccount } from './authenticator.ts';
import type { Account, Directory, Lookup } from './directory.ts';
import type { Passwords } from './passwords.ts';

export class AccountError extends Error {
  override readonly name = 'AccountError';
  readonly code: 'exists' | 'unknown' | 'invalid';
  constructor(code: AccountError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export interface UserEntry extends Account {
  /** `SCRYPT`, `SSHA512` …; undefined without a password. */
  readonly passwordScheme?: string;
  /** ms since the epoch. */
  readonly createdAt: number;
}

export interface NewUser {
  readonly password?: string;
  /** `{SCHEME}data` of another system, instead of a password. */
  readonly passwordHash?: string;
  readonly quotaBytes?: number;
  readonly disabled?: boolean;
}

/** Changes reject with an `AccountError`, or with a `StateError` where the store fails. */
export interface Users extends Directory {
  list(domain?: string): Promise<readonly UserEntry[]>;
  add(name: string, user: NewUser): Promise<Account>;
  setPassword(name: string, password: string): Promise<void>;
  setQuota(name: string, quotaBytes: number | undefined): Promise<void>;
  setDisabled(name: string, disabled: boolean): Promise<void>;
  /** The account; its mail stays. */
  remove(name: string): Promise<void>;
}

export interface UsersOptions {
  readonly state: State;
  readonly passwords: Passwords;
  readonly limits: AuthLimits;
  readonly clock: Clock;
  /** Keep a verifier for SCRAM-SHA-256 beside each hash. Default true. SCRAM-SHA-1 too: default false. */
  readonly scramSha256?: boolean;
  readonly scramSha1?: boolean;
  /** Default 2000; 0 = always ask the store. */
  readonly findCacheMs?: number;
  readonly refusalAfterMs?: number;
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
}

const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE users (
        name TEXT PRIMARY KEY, local TEXT NOT NULL, domain TEXT NOT NULL, password TEXT, scram_sha256 TEXT,
        scram_sha1 TEXT, quota_bytes BIGINT, disabled INTEGER NOT NULL, created_at BIGINT NOT NULL,
        changed_at BIGINT NOT NULL)`,
      'CREATE INDEX users_by_local ON users (local)',
      'CREATE INDEX users_by_domain ON users (domain)',
    ],
  },
];

const optionalText = (value: SqlValue | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;

function toStored(row: Row): StoredAccount {
  const password = optionalText(row['password']);
  const scramSha256 = optionalText(row['scram_sha256']);
  const scramSha1 = optionalText(row['scram_sha1']);
  return {
    name: String(row['name']),
    disabled: Number(row['disabled']) !== 0,
    ...(row['quota_bytes'] !== null && { quotaBytes: Number(row['quota_bytes']) }),
    ...(password !== undefined && { password }),
    ...(scramSha256 !== undefined && { scramSha256 }),
    ...(scramSha1 !== undefined && { scramSha1 }),
  };
}

function toEntry(row: Row): UserEntry {
  const { name, disabled, quotaBytes, password } = toStored(row);
  const passwordScheme = /^\{([^}]+)\}/.exec(password ?? '')?.[1]?.toUpperCase();
  return {
    name,
    disabled,
    createdAt: Number(row['created_at']),
    ...(quotaBytes !== undefined && { quotaBytes }),
    ...(password !== undefined && { passwordScheme: passwordScheme ?? 'CRYPT' }),
  };
}

function checkedName(text: string): { readonly name: string; readonly local: string; readonly domain: string } {
  const parsed = parseAccountName(text);
  if (parsed.kind === 'invalid') throw new AccountError('invalid', `Cannot use "${text}" as a name: ${parsed.why}`);
  return parsed;
}

export async function openUsers(options: UsersOptions): Promise<Users> {
  const { state, passwords, clock } = options;
  await state.migrate('users', schema);
  const found = createReadCache<Lookup<Account>>({
    clock,
    keepMs: options.findCacheMs ?? 2000,
    maxKeys: 20_000,
    keeps: ({ kind }) => kind === 'found',
  });
  /** One statement; the number of changed rows. */
  const change = (sql: string, params: readonly SqlValue[]): Promise<number> =>
    found.changing(undefined, async () => {
      const [count = 0] = await state.write([{ sql, params }]);
      return count;
    });

  async function lookup(name: string): Promise<Lookup<StoredAccount>> {
    const parsed = name.includes('@') ? parseAccountName(name) : undefined;
    if (parsed?.kind === 'invalid') return { kind: 'none' };
    try {
      const rows =
        parsed === undefined
          ? await state.query('SELECT * FROM users WHERE local = ? LIMIT 2', [name.normalize('NFC').toLowerCase()])
          : await state.query('SELECT * FROM users WHERE name = ?', [parsed.name]);
      const [row] = rows;
      return row !== undefined && rows.length === 1 ? { kind: 'found', value: toStored(row) } : { kind: 'none' };
    } catch (error) {
      return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) };
    }
  }

  const find = (name: string): Promise<Lookup<Account>> =>
    found.get(name, async () => {
      const stored = await lookup(name);
      return stored.kind === 'found' ? { kind: 'found', value: toAccount(stored.value) } : stored;
    });

  /** Columns for a new password. */
  async function secrets(password: string): Promise<readonly [string, string | null, string | null]> {
    return Promise.all([
      passwords.hash(password),
      options.scramSha256 === false ? null : passwords.scramVerifier(password, 'SHA-256'),
      options.scramSha1 === true ? passwords.scramVerifier(password, 'SHA-1') : null,
    ]);
  }

  async function setColumn(given: string, column: string, value: SqlValue): Promise<void> {
    const { name } = checkedName(given);
    const count = await change(`UPDATE users SET ${column} = ?, changed_at = ? WHERE name = ?`, [
      value,
      clock.now(),
      name,
    ]);
    if (count === 0) throw new AccountError('unknown', `There is no user "${name}"`);
  }

  async function upgrade(account: StoredAccount, password: string): Promise<void> {
    const hasScram = options.scramSha256 === false || account.scramSha256 !== undefined;
    const stored = account.password ?? '';
    if (hasScram && passwords.isCurrent(stored)) return;
    await state.write([
      {
        sql: 'UPDATE users SET password = ?, scram_sha256 = ?, scram_sha1 = ? WHERE name = ? AND password = ?',
        params: [...(await secrets(password)), account.name, stored],
      },
    ]);
  }

  return {
    ...makeAuthenticator({
      source: { lookup, upgrade },
      passwords,
      limits: options.limits,
      clock,
      warn: options.warn,
      ...(options.refusalAfterMs !== undefined && { refusalAfterMs: options.refusalAfterMs }),
    }),
    find,
    async domains() {
      try {
        const rows = await state.query('SELECT DISTINCT domain FROM users ORDER BY domain');
        return { kind: 'found', value: rows.map(row => String(row['domain'])) };
      } catch (error) {
        return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) };
      }
    },
    async list(domain) {
      const rows =
        domain === undefined
          ? await state.query('SELECT * FROM users ORDER BY domain, local')
          : await state.query('SELECT * FROM users WHERE domain = ? ORDER BY local', [domain.toLowerCase()]);
      return rows.map(toEntry);
    },
    async add(given, user) {
      const { name, local, domain } = checkedName(given);
      const hashed =
        user.password === undefined ? [user.passwordHash ?? null, null, null] : await secrets(user.password);
      const now = clock.now();
      const count = await change(
        'INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING',
        [name, local, domain, ...hashed, user.quotaBytes ?? null, user.disabled ? 1 : 0, now, now],
      );
      if (count === 0) throw new AccountError('exists', `There is a user "${name}" already`);
      return {
        name,
        disabled: user.disabled ?? false,
        ...(user.quotaBytes !== undefined && { quotaBytes: user.quotaBytes }),
      };
    },
    async setPassword(given, password) {
      const { name } = checkedName(given);
      const params = [...(await secrets(password)), clock.now(), name];
      const count = await change(
        'UPDATE users SET password = ?, scram_sha256 = ?, scram_sha1 = ?, changed_at = ? WHERE name = ?',
        params,
      );
      if (count === 0) throw new AccountError('unknown', `There is no user "${name}"`);
    },
    setQuota: (name, quotaBytes) => setColumn(name, 'quota_bytes', quotaBytes ?? null),
    setDisabled: (name, disabled) => setColumn(name, 'disabled', disabled ? 1 : 0),
    async remove(given) {
      const { name } = checkedName(given);
      const count = await change('DELETE FROM users WHERE name = ?', [name]);
      if (count === 0) throw new AccountError('unknown', `There is no user "${name}"`);
    },
  };
}
