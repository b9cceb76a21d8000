// Users of this machine, from passwd(5): who a number is.
import { readFile } from 'node:fs/promises';

export interface SystemUser {
  readonly name: string;
  /** From the GECOS field; '' where there is none. */
  readonly fullName: string;
}

/** Undefined where the file does not name the number (LDAP, a container). */
export async function findSystemUser(uid: number, file = '/etc/passwd'): Promise<SystemUser | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '');
  for (const line of text.split('\n')) {
    const [name, , id, , gecos = ''] = line.split(':');
    if (name === undefined || name === '' || id !== String(uid)) continue;
    // `&` stands for the login name, capitalised.
    const fullName = (gecos.split(',')[0] ?? '').replaceAll('&', name.charAt(0).toUpperCase() + name.slice(1));
    return { name, fullName };
  }
  return undefined;
}
