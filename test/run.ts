// `npm test`: runs tap over the compiled tests, then says which real-engine tests were skipped and how to get them.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { root } from './harness/root.ts';

const skipFile = path.join(root, '.tap', 'skipped-engines.jsonl');
mkdirSync(path.dirname(skipFile), { recursive: true });
rmSync(skipFile, { force: true });

const tap = path.join(root, 'node_modules', '.bin', 'tap');
const run = spawnSync(tap, ['run', ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, POSTERN_SKIP_FILE: skipFile },
});

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
process.exitCode = run.status ?? 1;
