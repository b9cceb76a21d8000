import t from 'tap';
import { checkGlobals, checkLayers, checkSingleKnower, checkValuePackages, findCycles } from './layering.ts';
import { listSources, readSource, withoutComments } from './source-files.ts';

const sources = listSources('core', 'plugins').map(({ file, source }) => readSource(file, source));

t.test('what may import what', async t => {
  t.ok(sources.length > 100, 'the sources were found');
  t.ok(
    sources.some(({ imports }) => imports.includes('core/mail/rope.ts')),
    'imports were found',
  );
  t.same(checkLayers(sources), []);
  t.same(checkValuePackages(sources), []);
  t.same(checkSingleKnower(sources), []);
  t.same(findCycles(sources), []);
  t.same(checkGlobals(sources), []);
});

t.test('the rules can fail', async t => {
  const bad = (file: string, text: string) => [readSource(file, text)];
  for (const [file, specifier, legal] of [
    ['core/lib/a.ts', '../mail/rope.ts', false],
    ['core/mail/a.ts', '../lib/clock.ts', true],
    ['core/mail/a.ts', '../plugin/verdicts.ts', false],
    ['core/plugin/a.ts', '../config/schema.ts', true],
    ['core/plugin/a.ts', '../config/load.ts', false],
    ['core/queue/a.ts', '../state/state.ts', true],
    ['core/queue/a.ts', '../state/sqlite.ts', false],
    ['core/queue/a.ts', '../mailstore/mailbox.ts', false],
    ['core/imap/commands/a.ts', '../../mailstore/mailbox.ts', true],
    ['core/imap/a.ts', '../smtp/server.ts', false],
    ['core/smtp/a.ts', '../gateway.ts', false],
    ['core/queue/a.ts', '../../plugins/dnsbl/index.ts', false],
    ['core/queue/a.ts', '../../test/harness/root.ts', false],
    ['core/unknown/a.ts', '../lib/clock.ts', false],
    ['core/gateway.ts', '../plugins/index.ts', true],
    ['plugins/a/index.ts', '../../core/plugin/index.ts', true],
    ['plugins/a/index.ts', '../../core/mail/mime.ts', false],
    ['plugins/a/index.ts', '../../core/queue/store.ts', false],
    ['plugins/a/index.ts', '../b/results.ts', true],
    ['plugins/a/index.ts', '../b/index.ts', false],
    ['plugins/a/index.ts', './c.ts', true],
    ['plugins/index.ts', './b/index.ts', true],
  ] as const)
    for (const form of [
      `import { x } from '${specifier}';`,
      `import type {\n  x,\n} from "${specifier}";`,
      `export * from '${specifier}';`,
      `import '${specifier}';`,
      `const x = await import('${specifier}');`,
      `type X = import('${specifier}').X;`,
      `new Worker(new URL('${specifier}', import.meta.url));`,
    ])
      t.equal(checkLayers(bad(file, form)).length, legal ? 0 : 1, `${file}: ${form}`);
  t.equal(checkLayers(bad('core/lib/a.ts', `// import { x } from '../mail/rope.ts';`)).length, 0);
  t.equal(checkValuePackages(bad('core/lib/a.ts', `import pino from 'pino';`)).length, 1);
  t.equal(checkValuePackages(bad('core/mail/a.ts', `import { join } from 'node:path';`)).length, 0);
  const two = (specifier: string) =>
    ['core/a.ts', 'plugins/b/c.ts'].map(file => readSource(file, `import '${specifier}';`));
  t.equal(checkSingleKnower(two('nodemailer')).length, 1);
  t.equal(checkSingleKnower(two('nodemailer/lib/smtp-connection/index.js')).length, 1);
  t.equal(checkSingleKnower(two('pino')).length, 0);
  const cycle = [
    readSource('core/lib/a.ts', `import './b.ts';`),
    readSource('core/lib/b.ts', `import type { C } from './c.ts';`),
    readSource('core/lib/c.ts', `import './b.ts';`),
  ];
  t.same(findCycles(cycle), ['core/lib/b.ts → core/lib/c.ts → core/lib/b.ts']);
  t.equal(checkGlobals(bad('core/queue/a.ts', 'const a = process.env.HOME;')).length, 1);
  t.equal(checkGlobals(bad('core/main.ts', 'const a = process.argv;')).length, 0);
  t.equal(checkGlobals(bad('core/queue/a.ts', 'export let count = 0;')).length, 1);
  t.equal(checkGlobals(bad('core/queue/a.ts', '// let it be\n/*\nlet count = 0;\n*/')).length, 0);
});

t.test('comments are told from strings', async t => {
  t.equal(withoutComments(`a('http://x') // b\n/* c */ d`), `a('http://x')     \n        d`);
});
