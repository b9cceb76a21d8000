// Accounts for tests of protocol servers: a real directory over a passwd-file. alice and bob, password `secret`.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { authLimits } from '../../core/accounts/auth-limits.ts';
import type { Directory } from '../../core/accounts/directory.ts';
import { openPasswdFile } from '../../core/accounts/passwd-file.ts';
import { openPasswords } from '../../core/accounts/passwords.ts';
import { systemClock } from '../../core/lib/clock.ts';

export interface TestAccounts {
  readonly directory: Directory;
  close(): Promise<void>;
}

export function testAccounts(folder: string): TestAccounts {
  const file = path.join(folder, 'passwd');
  writeFileSync(file, 'alice@example.org:{PLAIN}secret\nbob@example.org:{PLAIN}secret\n');
  const passwords = openPasswords({ scryptLn: 8, threads: 1 });
  const limits = authLimits({ clock: systemClock, perAddress: 100, perAccountAndAddress: 50 });
  return {
    directory: openPasswdFile({
      file,
      passwords,
      limits,
      clock: systemClock,
      refusalAfterMs: 0,
      warn: () => undefined,
    }),
    close: () => passwords.close(),
  };
}
