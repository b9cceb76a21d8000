import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { resolvePlugin } from '../../../core/pipeline/resolve-plugin.ts';
import { plugins } from '../../../plugins/index.ts';

/** What a stranger writes, without a build and without our types. */
const source = (name: string, rest = ''): string =>
  `const options = { safeParse: data => ({ success: true, data }) };
export const plugin = { name: '${name}', doc: 'x', options, setup: () => ({}) };
${rest}`;

t.test('by name, by path, from npm, and what is none', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-resolve-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const files: Readonly<Record<string, string>> = {
    'mine.mjs': source('mine'),
    'other.mjs': source('other').replace('const plugin', 'const somethingElse'),
    'two.mjs': `${source('one').replace('const plugin', 'const one')}export const two = { ...one };`,
    'none.mjs': 'export const x = 1;',
    'broken.mjs': 'export const x = ;',
    'throws.mjs': 'throw new Error("at load");',
    'node_modules/postern-hello/package.json': JSON.stringify({
      name: 'postern-hello',
      version: '1.0.0',
      type: 'module',
      exports: './index.js',
    }),
    'node_modules/postern-hello/index.js': source('hello'),
    'node_modules/@me/bye/package.json': JSON.stringify({ name: '@me/bye', version: '1.0.0', main: 'index.cjs' }),
    'node_modules/@me/bye/index.cjs': source('bye').replace('export const plugin', 'exports.plugin'),
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), text);
  }
  const from = { builtIn: plugins, folder };
  t.equal(await resolvePlugin('limits', from), plugins['limits']);
  t.match(await resolvePlugin('./mine.mjs', from), { name: 'mine' });
  t.match(await resolvePlugin(path.join(folder, 'other.mjs'), from), { name: 'other' }, 'the only plugin of a module');
  t.match(await resolvePlugin('postern-hello', from), { name: 'hello' });
  t.match(await resolvePlugin('@me/bye', from), { name: 'bye' });
  await t.rejects(resolvePlugin('./two.mjs', from), /several plugins/);
  await t.rejects(resolvePlugin('./none.mjs', from), /exports no plugin/);
  await t.rejects(resolvePlugin('./broken.mjs', from), /Could not load plugin '.\/broken.mjs'/);
  await t.rejects(resolvePlugin('./throws.mjs', from), /at load/);
  await t.rejects(resolvePlugin('./missing.mjs', from), /Could not load/);
  await t.rejects(resolvePlugin('limit', from), /neither one of the built-in ones \(.*limits.*\) nor an npm package/);
  await t.rejects(resolvePlugin('toString', from), /Found no plugin/);
  await t.rejects(resolvePlugin('constructor', from), /Found no plugin/);
});
