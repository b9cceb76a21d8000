// Accounts from a file in the format of Dovecot's passwd-file, read-only: `user:{SCHEME}hash:uid:gid:gecos:home:shell:extra`.
// Of the extra fields `userdb_quota_rule=*:storage=N` and `userdb_quota_storage_size=N` (with B, K, M, G, T) and
// `nologin` count. The file is looked at again when it changed, at most once a second; one that cannot be read makes the
// directory `unavailable` until it can, never empty.
import { readFile, stat } from 'node:fs/promises';
import type { Clock } from '../lib/clock.ts';
import { parseAccountName } from './account-name.ts';
import type { AuthLimits } from './auth-limits.ts';
import { makeAuthenticator, type StoredAccount, toAccount } from './authenticator.ts';
import type { Directory, Lookup } from './directory.ts';
import type { Passwords } from './passwords.ts';

export interface PasswdFileOptions {
  readonly file: string;
  /** For names without a domain. */
  readonly defaultDomain?: string;
  readonly passwords: Passwords;
  readonly limits: AuthLimits;
  readonly clock: Clock;
  readonly refusalAfterMs?: number;
  warn(message: string, details: Readonly<Record<string, unknown>>): void;
}

const checkEveryMs = 1000;
const maxFileBytes = 64 * 1024 * 1024;

interface Loaded {
  readonly stamp: string;
  readonly byName: ReadonlyMap<string, StoredAccount>;
  /** Undefined where a local part is ambiguous. */
  readonly byLocal: ReadonlyMap<string, StoredAccount | undefined>;
}

/** Bytes; undefined where the text is no size. Without a unit the number is KiB (`quota_rule`) or bytes (2.4's setting). */
function parseSize(text: string, defaultUnit: number): number | undefined {
  const match = /^(\d{1,15})([BKMGT]?)B?$/i.exec(text.trim());
  if (match === null) return undefined;
  const unit = match[2]?.toUpperCase() ?? '';
  return Number(match[1]) * (unit === '' ? defaultUnit : 1024 ** 'BKMGT'.indexOf(unit));
}

function quotaOf(extra: readonly string[]): number | undefined {
  for (const field of extra) {
    const rule = /^userdb_quota_rule\d*=\*:(?:.*:)?storage=([^:]+)/i.exec(field)?.[1];
    const size = /^userdb_quota_storage_size=(.+)$/i.exec(field)?.[1];
    const bytes = rule === undefined ? size && parseSize(size, 1) : parseSize(rule, 1024);
    if (typeof bytes === 'number' && bytes > 0) return bytes;
  }
  return undefined;
}

/** One line; undefined for a comment, an empty line or a name that cannot be an account. */
export function parsePasswdLine(line: string, defaultDomain?: string): StoredAccount | undefined {
  if (/^\s*(#|$)/.test(line)) return undefined;
  const fields = line.split(':');
  const given = fields[0] ?? '';
  const parsed = parseAccountName(given.includes('@') || !defaultDomain ? given : `${given}@${defaultDomain}`);
  if (parsed.kind === 'invalid') return undefined;
  // A quota rule holds colons itself.
  const extra = fields.slice(7).join(':').split(/\s+/);
  const quotaBytes = quotaOf(extra);
  const password = fields[1] ?? '';
  return {
    name: parsed.name,
    disabled: extra.some(field => /^nologin(=y(es)?)?$/i.test(field)),
    ...(quotaBytes !== undefined && { quotaBytes }),
    ...(password !== '' && { password }),
  };
}

function parseFile(text: string, stamp: string, options: PasswdFileOptions): Loaded {
  const byName = new Map<string, StoredAccount>();
  const byLocal = new Map<string, StoredAccount | undefined>();
  text.split(/\r?\n/).forEach((line, index) => {
    const account = parsePasswdLine(line, options.defaultDomain);
    if (account === undefined) {
      if (!/^\s*(#|$)/.test(line))
        options.warn('Line of the password file ignored', { file: options.file, line: index + 1 });
      return;
    }
    if (byName.has(account.name)) return;
    byName.set(account.name, account);
    const local = account.name.slice(0, account.name.lastIndexOf('@'));
    byLocal.set(local, byLocal.has(local) ? undefined : account);
  });
  return { stamp, byName, byLocal };
}

export function openPasswdFile(options: PasswdFileOptions): Directory {
  const { file, clock } = options;
  let loaded: Loaded | undefined;
  let checkedAt = Number.NEGATIVE_INFINITY;
  let loading: Promise<Loaded> | undefined;

  async function load(): Promise<Loaded> {
    const { ino, size, mtimeMs } = await stat(file);
    const stamp = `${ino} ${size} ${mtimeMs}`;
    if (loaded?.stamp === stamp) return loaded;
    if (size > maxFileBytes) throw new Error(`"${file}" is larger than ${maxFileBytes} bytes`);
    return parseFile(await readFile(file, 'utf8'), stamp, options);
  }

  async function current(): Promise<Loaded> {
    if (loaded !== undefined && clock.monotonic() - checkedAt < checkEveryMs) return loaded;
    loading ??= load().finally(() => {
      loading = undefined;
    });
    loaded = await loading;
    checkedAt = clock.monotonic();
    return loaded;
  }

  async function read<T>(pick: (accounts: Loaded) => T | undefined): Promise<Lookup<T>> {
    try {
      const value = pick(await current());
      return value === undefined ? { kind: 'none' } : { kind: 'found', value };
    } catch (error) {
      return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) };
    }
  }

  const lookup = (name: string): Promise<Lookup<StoredAccount>> =>
    read(({ byName, byLocal }) => {
      if (!name.includes('@')) return byLocal.get(name.normalize('NFC').toLowerCase());
      const parsed = parseAccountName(name);
      return parsed.kind === 'ok' ? byName.get(parsed.name) : undefined;
    });

  return {
    ...makeAuthenticator({
      source: { lookup },
      passwords: options.passwords,
      limits: options.limits,
      clock,
      warn: options.warn,
      ...(options.refusalAfterMs !== undefined && { refusalAfterMs: options.refusalAfterMs }),
    }),
    async find(name) {
      const found = await lookup(name);
      return found.kind === 'found' ? { kind: 'found', value: toAccount(found.value) } : found;
    },
    domains: () =>
      read(({ byName }) => [...new Set([...byName.keys()].map(name => name.slice(name.lastIndexOf('@') + 1)))].sort()),
  };
}
