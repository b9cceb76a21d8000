// `npm test`: runs tap over the compiled tests, then repeats what failed, where a long log would hide it, and says which
// real-engine tests were skipped and how to get them.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { root } from './harness/root.ts';
import { failuresOf } from './harness/tap-failures.ts';

const folder = path.join(root, '.tap');
const skipFile = path.join(folder, 'skipped-engines.jsonl');
const outputFile = path.join(folder, 'output.tap');
mkdirSync(folder, { recursive: true });
rmSync(skipFile, { force: true });

const tap = path.join(root, 'node_modules', '.bin', 'tap');
/** tap is compiled for its list of plugins (`.taprc`), once after each install. */
const built = path.join(root, 'node_modules/@tapjs/test/test-built/dist/esm/index.js');
if (!existsSync(built) || /"@tapjs\/(typescript|mock)"/.test(readFileSync(built, 'utf8'))) {
  const { status } = spawnSync(tap, ['build'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error(`tap build ended with ${status}`);
}

const env = { ...process.env, POSTERN_SKIP_FILE: skipFile };
const args = ['run', ...process.argv.slice(2)];

/** On a terminal tap draws, and ends with what failed by itself. Elsewhere it writes TAP, which is kept. */
async function run(): Promise<number> {
  if (process.stdout.isTTY) {
    const child = spawn(tap, args, { cwd: root, stdio: 'inherit', env });
    const [code] = await once(child, 'exit');
    return code ?? 1;
  }
  const child = spawn(tap, args, { cwd: root, stdio: ['inherit', 'pipe', 'inherit'], env });
  const output = createWriteStream(outputFile);
  child.stdout.pipe(process.stdout, { end: false });
  child.stdout.pipe(output);
  const [[code]] = await Promise.all([once(child, 'close'), once(output, 'finish')]);
  const failures = failuresOf(readFileSync(outputFile, 'utf8'));
  if (failures.length > 0) console.log(`\nWhat failed (whole output: ${path.relative(root, outputFile)}):\n`);
  for (const failure of failures) console.log(failure);
  return code ?? 1;
}

const code = await run();
if (existsSync(skipFile)) {
  const skipped = readFileSync(skipFile, 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as { readonly name: string; readonly packages: readonly string[] });
  const packages = [...new Set(skipped.flatMap(entry => entry.packages))].sort();
  console.log(`\nSkipped for want of a real engine (${skipped.length}):`);
  for (const entry of skipped) console.log(`  ${entry.name}: needs ${entry.packages.join(', ')}`);
  console.log(`To run them too: apt-get install --no-install-recommends ${packages.join(' ')}\n`);
} else console.log('\nNo real-engine test was skipped.\n');
process.exitCode = code;
