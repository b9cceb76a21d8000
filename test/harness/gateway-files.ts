// What a gateway under test has done on disk, and waiting for it: delivery may end after the reply.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Files of all mailboxes of the gateway in that folder. */
export const deliveredFiles = (folder: string): readonly string[] =>
  readdirSync(path.join(folder, 'data', 'mail'), { recursive: true, encoding: 'utf8' })
    .filter(name => /\/(new|cur)\/[^/]+$/.test(name))
    .map(name => readFileSync(path.join(folder, 'data', 'mail', name), 'utf8'));

export async function until(done: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !(await done()); ) {
    if (Date.now() > end) throw new Error(`Waited in vain: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
