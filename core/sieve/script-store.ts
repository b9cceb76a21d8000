// Scripts of the users, in the state store, so that ManageSieve, the command line and the console see the same ones at once.
// Invariants: at most one script of a user is active; nothing that does not compile is stored; an active script is not
// deleted; a script is replaced whole or not at all. Bytes are kept as they came.
import { createHash } from 'node:crypto';
import type { Clock } from '../lib/clock.ts';
import { createReadCache } from '../lib/read-cache.ts';
import { type Migration, type SqlValue, type State, StateError } from '../state/state.ts';
import type { Diagnostic } from './diagnostic.ts';

export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  /** `maxscripts`, `maxsize`: quotas; `invalid`: it does not compile; `name`: not a script name (RFC 5804 §1.6). */
  readonly code: 'nonexistent' | 'alreadyexists' | 'active' | 'maxscripts' | 'maxsize' | 'invalid' | 'name';
  /** Of `invalid`. */
  readonly diagnostics: readonly Diagnostic[];
  constructor(code: ScriptError['code'], message: string, diagnostics: readonly Diagnostic[] = []) {
    super(message);
    this.code = code;
    this.diagnostics = diagnostics;
  }
}

export interface ScriptInfo {
  readonly name: string;
  readonly active: boolean;
  /** Bytes. */
  readonly size: number;
  /** ms since the epoch. */
  readonly changedAt: number;
}

export interface ActiveScript {
  readonly name: string;
  readonly content: Buffer;
  /** Of the content: what a compiled form can be kept by. */
  readonly hash: string;
}

/** Rejects with a `ScriptError`, or with a `StateError` where the store fails. `user` is an account name. */
export interface SieveScripts {
  /** By name. */
  list(user: string): Promise<readonly ScriptInfo[]>;
  get(user: string, name: string): Promise<Buffer>;
  active(user: string): Promise<ActiveScript | undefined>;
  /** Errors and warnings, all of them; never rejects for what is in the script. */
  check(content: Buffer): readonly Diagnostic[];
  /** Resolves to the warnings. Replaces a script of that name; whether it is active stays as it was. */
  put(user: string, name: string, content: Buffer): Promise<readonly Diagnostic[]>;
  /** Rejects as `put` would for the quota. */
  haveSpace(user: string, name: string, size: number): Promise<void>;
  /** Undefined: none is active from now on. */
  activate(user: string, name: string | undefined): Promise<void>;
  delete(user: string, name: string): Promise<void>;
  /** An active script stays active. */
  rename(user: string, from: string, to: string): Promise<void>;
}

export interface ScriptStoreOptions {
  readonly state: State;
  readonly clock: Clock;
  check(content: Buffer): readonly Diagnostic[];
  /** What an active script must pass as well. Default: nothing more. */
  checkActive?(content: Buffer): readonly Diagnostic[];
  /** Per user. Default 64. */
  readonly maxScripts?: number;
  /** Of one script. Default 256 KiB. */
  readonly maxBytes?: number;
  /** How long `active` may be out of date after a change by another process. Default 2000; 0 = always ask. */
  readonly activeCacheMs?: number;
}

const schema: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE sieve_script (
        account TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, hash TEXT NOT NULL, size BIGINT NOT NULL,
        active INTEGER NOT NULL, changed_at BIGINT NOT NULL, PRIMARY KEY (account, name))`,
    ],
  },
];

/** RFC 5804 §1.6: Net-Unicode without control characters and line separators, at most 128 characters. */
export function scriptName(given: string): string {
  const name = given.normalize('NFC');
  const length = [...name].length;
  if (length === 0) throw new ScriptError('name', 'A script needs a name');
  if (length > 128) throw new ScriptError('name', 'A script name has at most 128 characters');
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(name))
    throw new ScriptError('name', 'A script name holds no control characters');
  return name;
}

const missing = (name: string): ScriptError => new ScriptError('nonexistent', `There is no script "${name}"`);

export async function openScriptStore(options: ScriptStoreOptions): Promise<SieveScripts> {
  const { state, clock, check } = options;
  const { maxScripts = 64, maxBytes = 256 * 1024, activeCacheMs = 2000 } = options;
  await state.migrate('sieve', schema);
  const activeOf = createReadCache<ActiveScript | undefined>({ clock, keepMs: activeCacheMs, maxKeys: 20_000 });

  async function exists(user: string, name: string): Promise<boolean> {
    return (await state.query('SELECT 1 FROM sieve_script WHERE account = ? AND name = ?', [user, name])).length > 0;
  }

  /** One statement; the number of changed rows. */
  const change = (user: string, sql: string, params: readonly SqlValue[]): Promise<number> =>
    activeOf.changing(user, async () => {
      const [count = 0] = await state.write([{ sql, params }]);
      return count;
    });

  async function get(user: string, given: string): Promise<Buffer> {
    const name = scriptName(given);
    const [row] = await state.query('SELECT content FROM sieve_script WHERE account = ? AND name = ?', [user, name]);
    if (row === undefined) throw missing(name);
    return Buffer.from(row['content'] as Uint8Array);
  }

  function refuseInvalid(name: string, diagnostics: readonly Diagnostic[], what = 'has errors'): void {
    if (diagnostics.some(({ severity }) => severity === 'error'))
      throw new ScriptError('invalid', `Script "${name}" ${what}`, diagnostics);
  }

  async function isActive(user: string, name: string): Promise<boolean> {
    const sql = 'SELECT 1 FROM sieve_script WHERE account = ? AND name = ? AND active = 1';
    return (await state.query(sql, [user, name])).length > 0;
  }

  function refuseSize(size: number): void {
    if (size > maxBytes) throw new ScriptError('maxsize', `A script has at most ${maxBytes} bytes`);
  }
  const tooMany = (): ScriptError => new ScriptError('maxscripts', `There are ${maxScripts} scripts already`);

  return {
    check,
    async list(user) {
      const rows = await state.query(
        'SELECT name, active, size, changed_at FROM sieve_script WHERE account = ? ORDER BY name',
        [user],
      );
      return rows.map(row => ({
        name: String(row['name']),
        active: Number(row['active']) === 1,
        size: Number(row['size']),
        changedAt: Number(row['changed_at']),
      }));
    },
    get,
    active: user =>
      activeOf.get(user, async () => {
        const sql = 'SELECT name, content, hash FROM sieve_script WHERE account = ? AND active = 1';
        const [row] = await state.query(sql, [user]);
        return (
          row && {
            name: String(row['name']),
            content: Buffer.from(row['content'] as Uint8Array),
            hash: String(row['hash']),
          }
        );
      }),
    async haveSpace(user, given, size) {
      const name = scriptName(given);
      refuseSize(size);
      const [row] = await state.query('SELECT count(*) AS n FROM sieve_script WHERE account = ? AND name <> ?', [
        user,
        name,
      ]);
      if (Number(row?.['n']) >= maxScripts) throw tooMany();
    },
    async put(user, given, content) {
      const name = scriptName(given);
      refuseSize(content.length);
      const diagnostics = check(content);
      refuseInvalid(name, diagnostics);
      if (options.checkActive && (await isActive(user, name))) refuseInvalid(name, options.checkActive(content));
      const hash = createHash('sha256').update(content).digest('base64url');
      const count = await change(
        user,
        `INSERT INTO sieve_script SELECT ?, ?, ?, ?, ?, 0, ?
          WHERE (SELECT count(*) FROM sieve_script WHERE account = ? AND name <> ?) < ?
          ON CONFLICT (account, name) DO UPDATE SET content = excluded.content, hash = excluded.hash,
            size = excluded.size, changed_at = excluded.changed_at`,
        [user, name, content, hash, content.length, clock.now(), user, name, maxScripts],
      );
      if (count === 0) throw tooMany();
      return diagnostics;
    },
    async activate(user, given) {
      if (given === undefined) {
        await change(user, 'UPDATE sieve_script SET active = 0 WHERE account = ? AND active = 1', [user]);
        return;
      }
      const name = scriptName(given);
      if (options.checkActive)
        refuseInvalid(name, options.checkActive(await get(user, name)), 'cannot run at delivery');
      const count = await change(
        user,
        `UPDATE sieve_script SET active = CASE WHEN name = ? THEN 1 ELSE 0 END
          WHERE account = ? AND EXISTS (SELECT 1 FROM sieve_script AS one WHERE one.account = ? AND one.name = ?)`,
        [name, user, user, name],
      );
      if (count === 0) throw missing(name);
    },
    async delete(user, given) {
      const name = scriptName(given);
      const sql = 'DELETE FROM sieve_script WHERE account = ? AND name = ? AND active = 0';
      if ((await change(user, sql, [user, name])) > 0) return;
      if (await exists(user, name)) throw new ScriptError('active', `Script "${name}" is active`);
      throw missing(name);
    },
    async rename(user, givenFrom, givenTo) {
      const from = scriptName(givenFrom);
      const to = scriptName(givenTo);
      const taken = new ScriptError('alreadyexists', `There is a script "${to}" already`);
      if (from === to) throw (await exists(user, from)) ? taken : missing(from);
      try {
        const sql = 'UPDATE sieve_script SET name = ? WHERE account = ? AND name = ?';
        if ((await change(user, sql, [to, user, from])) === 0) throw missing(from);
      } catch (error) {
        if (error instanceof StateError && error.code === 'constraint') throw taken;
        throw error;
      }
    },
  };
}
