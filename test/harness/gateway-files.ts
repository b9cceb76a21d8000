// What a gateway under test has done on disk, and waiting for it: delivery may end after the reply.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Files of all mailboxes of the gateway in that folder. */
export const deliveredFiles = (folder: string): readonly string[] =>
  readdirSync(path.join(folder, 'data', 'mail'), { recursive: true, encoding: 'utf8' })
    .filter(name => /\/(new|cur)\/[^/]+$/.test(name))
    .map(name => readFileSync(path.join(folder, 'data', 'mail', name), 'utf8'));

/** Waits for what `find` finds: anything but undefined and false. */
export async function until<T>(find: () => T | undefined | Promise<T | undefined>, what: string): Promise<T> {
  for (const end = Date.now() + 120_000; ; ) {
    const found = await find();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`Waited in vain: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
