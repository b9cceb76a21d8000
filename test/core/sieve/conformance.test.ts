// The standards' clauses as cases: test/cases/sieve/*.txt, read by `case-file.ts`, run by `case-runner.ts`.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { standardExtensions, standardRegistry } from '../../../core/sieve/index.ts';
import { sourcePath } from '../../harness/root.ts';
import { plainMessage } from '../../harness/sieve-host.ts';
import { parseCases } from './case-file.ts';
import { runCase } from './case-runner.ts';

const folder = sourcePath('test/cases/sieve');
const files = readdirSync(folder)
  .filter(name => name.endsWith('.txt'))
  .sort();
const cases = files.flatMap(name => parseCases(name, readFileSync(path.join(folder, name), 'utf8')));
const programs = ['vnd.dovecot.pipe', 'vnd.dovecot.filter', 'vnd.dovecot.execute'];
const registry = standardRegistry([], { enable: programs });

function messageText(name: string): string {
  return name === 'plain' ? plainMessage : readFileSync(path.join(folder, 'messages', `${name}.eml`), 'utf8');
}

const fakePrograms = {
  upper: (input: string) => ({ status: 0, output: input.toUpperCase() }),
  echo: (_: string, args: readonly string[]) => ({ status: 0, output: args.join(' ') }),
  fail: () => ({ status: 1, output: '' }),
  busy: () => ({ status: 75, output: '' }),
};

for (const file of files)
  t.test(file, async t => {
    for (const one of cases.filter(candidate => candidate.file === file)) {
      const problems = await runCase(one, messageText(one.message), registry, fakePrograms);
      t.same(
        problems,
        [],
        `${one.file}:${one.line} ${one.clause}: ${one.kind === 'script' ? '' : `${one.kind} `}${one.title}`,
      );
    }
  });

t.test('the suite is complete', async t => {
  t.ok(cases.length >= 600, `${cases.length} cases`);
  const text = cases
    .map(one => `${one.require.map(name => `"${name}"`).join()} ${one.script}`)
    .join('\n')
    .toLowerCase();
  const missing: string[] = [];
  for (const extension of standardExtensions) {
    if (!extension.hidden && !text.includes(`"${extension.name}"`)) missing.push(extension.name);
    const words = [...(extension.commands ?? []), ...(extension.tests ?? [])];
    for (const word of words) {
      if (!new RegExp(`\\b${word.name}\\b`).test(text)) missing.push(`${extension.name}: ${word.name}`);
      for (const tag of word.tags ?? [])
        if (!new RegExp(`${word.name}\\b[^;]*:${tag.name}\\b`).test(text)) missing.push(`${word.name} :${tag.name}`);
    }
    for (const tag of extension.tags ?? [])
      for (const word of tag.on ?? [])
        if (!new RegExp(`${word}\\b[^;]*:${tag.name}\\b`).test(text)) missing.push(`${word} :${tag.name}`);
    const others = [...(extension.matchTypes ?? []), ...(extension.addressParts ?? []), ...(extension.modifiers ?? [])];
    for (const other of others) if (!text.includes(`:${other.name}`)) missing.push(`${extension.name}: :${other.name}`);
  }
  t.same(missing, [], 'every word and tag of every extension is in a case');
});
