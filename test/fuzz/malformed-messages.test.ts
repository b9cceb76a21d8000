// Ten thousand broken messages through the chain with every filter that needs no engine (all observe, so that each sees them
// all; the rules of `sieve` need mailboxes and do not run): each gets an outcome, no plugin fails or
// runs into its deadline, and memory stays where it was. POSTERN_FUZZ_SEED=random (or a number) looks elsewhere; a message that fails
// is `malformedMessage(seed, number)`.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import type { MalformedRun } from '../harness/malformed-run.ts';
import { root } from '../harness/root.ts';

const count = 10_000;
const filters =
  'auth limits sender-login rewrite aliases srs rfc822 mail-auth attachments uribl score banner headers arc-seal dkim-sign'.split(
    ' ',
  );
const given = process.env['POSTERN_FUZZ_SEED'] ?? '20261128';
const seed = given === 'random' ? Math.floor(Math.random() * 1e6) : Number(given);
const program = path.join(root, 'build/test/harness/malformed-run.js');

async function run(from: number, to: number): Promise<MalformedRun> {
  const args = [program, ...[seed, from, to].map(String)];
  const { NODE_OPTIONS: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, args, { env, maxBuffer: 2 ** 24 });
  return JSON.parse(stdout) as MalformedRun;
}

t.test(`seed ${seed}`, { timeout: 800_000 }, async t => {
  const half = count / 2;
  for (const { failed, seen, heapMiB } of await Promise.all([run(0, half), run(half, count)])) {
    t.same(failed, []);
    for (const name of filters) t.equal(seen[name], half, `${name} saw every message`);
    const grown = heapMiB[1] - heapMiB[0];
    t.ok(grown < 64, `memory grew by ${grown.toFixed(1)} MiB over ${(half / 5) * 4} messages`);
  }
});
