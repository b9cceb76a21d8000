// postern user add | list | passwd | remove
import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { openAccounts } from '../compose/stores.ts';
import type { LoadedConfig } from '../config/load.ts';
import { loadConfig } from '../config/load.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { formatTable } from './table.ts';

type Accounts = Awaited<ReturnType<typeof openAccounts>>['users'];

async function withAccounts<T>(
  context: CliContext,
  work: (users: Accounts, config: LoadedConfig) => Promise<T>,
): Promise<T> {
  const config = loadConfig(context.configFile, context.workingFolder);
  const accounts = await openAccounts(config, context.clock, context.log);
  try {
    return await work(accounts.users, config);
  } finally {
    await accounts.close();
  }
}

/** The first line of standard input; on a terminal after a prompt. */
async function readPassword(context: CliContext): Promise<string> {
  if (context.stdin.isTTY) context.stdout.write('Password: ');
  const lines = createInterface({ input: context.stdin });
  for await (const line of lines) {
    lines.close();
    if (line === '') break;
    return line;
  }
  throw new UsageError('No password given on standard input');
}

/** Full account name: the domain may be left out where there is only one. */
export function addressIn(config: LoadedConfig, name: string): string {
  const address = name.toLowerCase();
  const at = address.lastIndexOf('@');
  const domains = config.options.domains.filter(domain => domain.kind !== 'relay').map(domain => domain.name);
  if (at < 0) {
    if (domains.length === 1 && domains[0] !== undefined) return `${address}@${domains[0]}`;
    throw new UsageError(`'${name}' needs a domain: one of ${domains.join(', ') || '(no domain is configured)'}`);
  }
  if (at === 0 || !domains.includes(address.slice(at + 1)))
    throw new UsageError(`Domain of '${name}' is not served here: configured are ${domains.join(', ') || 'none'}`);
  return address;
}

export interface UserAddOptions {
  readonly generate?: boolean;
  /** Bytes. */
  readonly quota?: number;
}

export function userAdd(context: CliContext, name: string, options: UserAddOptions): Promise<ExitCode> {
  return withAccounts(context, async (users, config) => {
    const address = addressIn(config, name);
    if ((await users.find(address)).kind === 'found')
      throw new UsageError(`User '${address}' exists already`, exitCodes.negative);
    const password = options.generate ? randomBytes(12).toString('base64url') : await readPassword(context);
    await users.add(address, { password, ...(options.quota === undefined ? {} : { quotaBytes: options.quota }) });
    print(
      context,
      { name: address, ...(options.generate ? { password } : {}) },
      () => `Added ${address}${options.generate ? ` with password ${password}` : ''}`,
    );
    return exitCodes.ok;
  });
}

export function userList(context: CliContext): Promise<ExitCode> {
  return withAccounts(context, async users => {
    const list = await users.list();
    print(context, list, () =>
      list.length === 0
        ? 'No users.'
        : formatTable(
            ['USER', 'QUOTA', 'STATE'],
            list.map(user => [
              user.name,
              user.quotaBytes === undefined ? '-' : String(user.quotaBytes),
              user.disabled ? 'disabled' : 'active',
            ]),
          ),
    );
    return exitCodes.ok;
  });
}

export function userPasswd(
  context: CliContext,
  name: string,
  options: { readonly generate?: boolean },
): Promise<ExitCode> {
  return withAccounts(context, async (users, config) => {
    const address = addressIn(config, name);
    if ((await users.find(address)).kind !== 'found') throw new UsageError(`No user '${address}'`, exitCodes.negative);
    const password = options.generate ? randomBytes(12).toString('base64url') : await readPassword(context);
    await users.setPassword(address, password);
    print(
      context,
      { name: address, ...(options.generate ? { password } : {}) },
      () => `Changed the password of ${address}${options.generate ? ` to ${password}` : ''}`,
    );
    return exitCodes.ok;
  });
}

export function userRemove(context: CliContext, name: string): Promise<ExitCode> {
  return withAccounts(context, async (users, config) => {
    const address = addressIn(config, name);
    if ((await users.find(address)).kind !== 'found') throw new UsageError(`No user '${address}'`, exitCodes.negative);
    await users.remove(address);
    print(context, { name: address }, () => `Removed ${address}; the Maildir stays where it is`);
    return exitCodes.ok;
  });
}
