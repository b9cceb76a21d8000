// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of Sieve scripts
// Scripts mutated at random through the compiler and, where they compile, through a run; patterns that are made to be slow.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { compile, parse, run, standardRegistry } from '../../core/sieve/index.ts';
import type { Random } from '../harness/random.ts';
import { random } from '../harness/random.ts';
import { sourcePath } from '../harness/root.ts';
import { memoryHost } from '../harness/sieve-host.ts';

const registry = standardRegistry();

/** Scripts of the case files, with all that their cases require. */
function seeds(): readonly string[] {
  const folder = sourcePath('test/cases/sieve');
  const all = `require [${registry.capabilities
    // What it makes late, and what goes with no answer to a delivery.
    .filter(name => name !== 'ihave' && name !== 'imapsieve')
    .map(name => `"${name}"`)
    .join(', ')}];`;
  const scripts: string[] = [];
  for (const name of readdirSync(folder).filter(file => file.endsWith('.txt'))) {
    const text = readFileSync(path.join(folder, name), 'utf8');
    for (const found of text.matchAll(/^== .*\n((?:(?!=>|==|§).*\n)+)/gm)) {
      const script = (found[1] as string).replace(/^(host|message): .*\n/gm, '');
      scripts.push(/^\s*require/m.test(script) ? script : `${all}\n${script}`);
    }
    for (const found of text.matchAll(/^(?:true|false) (.*)$/gm)) scripts.push(`${all}\nif ${found[1]} { keep; }`);
  }
  return scripts;
}

const snippets = [
  ...[
    '{',
    '}',
    '(',
    ')',
    '[',
    ']',
    ';',
    ',',
    '"',
    '\\',
    ':',
    '/*',
    '*/',
    '#',
    'text:\n',
    '.\n',
    '\n',
    '\r',
    '\0',
    '4G',
    '99999999999',
  ],
  ...[
    'if',
    'elsif',
    'else',
    'not',
    'anyof (',
    'allof (',
    'require',
    'stop;',
    'keep;',
    ':matches',
    ':regex',
    ':count "ge"',
    '"*"',
    '"?*?*"',
  ],
  ...[
    '"${1}"',
    '"${a.b}"',
    '${hex:ff}',
    '${unicode:110000}',
    ':comparator "i;octet"',
    'true',
    'foreverypart {',
    'include "x";',
    'é',
    '\ud800',
  ],
];

function mutate(script: string, other: string, r: Random): string {
  let out = script;
  for (let count = r.chance(0.4) ? 1 + r.int(4) : 1; count > 0; count -= 1) {
    // Mostly behind the first line, which is `require`.
    const from = r.chance(0.9) ? out.indexOf('\n') + 1 : 0;
    const at = from + r.int(out.length + 1 - from);
    const length = r.int(12);
    const kind = r.int(6);
    if (kind === 0) out = out.slice(0, at) + out.slice(at + length);
    else if (kind === 1) out = out.slice(0, at) + r.pick(snippets) + out.slice(at);
    else if (kind === 2) out = out.slice(0, at) + String.fromCharCode(r.int(256)) + out.slice(at + 1);
    else if (kind === 3) out = out.slice(0, at) + out.slice(at, at + length).repeat(1 + r.int(20)) + out.slice(at);
    else if (kind === 4)
      out = out.slice(0, at) + other.slice(r.int(other.length), r.int(other.length + 1)) + out.slice(at);
    else out = out.slice(0, at) + r.pick(snippets).repeat(1 + r.int(30)) + out.slice(at);
  }
  return out;
}

t.test('10,000 mutated scripts', { timeout: 240_000 }, async t => {
  const r = random(5228);
  const pool = seeds();
  const settings = { maxSteps: 20_000, maxCpuMs: 5_000, maxVariableBytes: 4096 };
  let compiledCount = 0;
  let longestMs = 0;
  for (let count = 0; count < 10_000; count += 1) {
    const script = count % 20 === 0 ? r.pick(pool) : mutate(r.pick(pool), r.pick(pool), r);
    const began = process.cpuUsage();
    const compiled = compile(script, { registry });
    if (!compiled.ok && !compiled.diagnostics.every(d => d.line >= 1 && d.column >= 1 && d.message !== ''))
      t.fail(
        `diagnostic without a place or words: ${JSON.stringify(compiled.diagnostics)} of ${JSON.stringify(script)}`,
      );
    if (compiled.ok) {
      compiledCount += 1;
      const result = await run(compiled.program, memoryHost({ settings }));
      const text = result.diagnostics.map(d => d.message).join('\n');
      if (/Internal error|undefined|\[object/.test(text)) t.fail(`${text} of ${JSON.stringify(script)}`);
      if (result.status !== 'ok' && !result.actions.some(entry => entry.implicit || entry.action === 'keep'))
        t.fail(`lost message after ${result.status} of ${JSON.stringify(script)}`);
    }
    const used = process.cpuUsage(began);
    longestMs = Math.max(longestMs, (used.user + used.system) / 1000);
  }
  t.comment(`${compiledCount} of 10,000 compile, the slowest took ${longestMs.toFixed(0)} ms`);
  t.ok(compiledCount > 1000, 'enough of them compile and run');
  t.ok(longestMs < 5000, 'none hangs');
});

t.test('the parser keeps every character', async t => {
  const r = random(1);
  const pool = seeds();
  for (let count = 0; count < 300; count += 1) {
    const script = parse(mutate(r.pick(pool), r.pick(pool), r));
    for (const comment of script.comments)
      if (!script.source.slice(comment.span.start, comment.span.end).includes(comment.text))
        t.fail('comment is not where it says');
    for (const command of script.commands) {
      const text = script.source.slice(command.span.start, command.span.end).toLowerCase();
      if (!text.startsWith(command.name))
        t.fail(`${command.name} is not at ${command.span.line}:${command.span.column}`);
    }
  }
  t.pass('ranges are true');
});

t.test('patterns made to be slow', async t => {
  const long = 'a'.repeat(200_000);
  const bombs = [
    `header :matches "x-long" "${'*a'.repeat(2000)}b"`,
    `header :matches "x-long" "${'*?a'.repeat(1000)}*b"`,
    `header :matches "x-long" "*${'a?'.repeat(2000)}b*"`,
    `header :matches "x-long" "*${'a'.repeat(5000)}b*"`,
    `header :contains "x-long" "${'a'.repeat(5000)}b"`,
    'header :regex "x-long" "(a+)+$b"',
    'header :regex "x-long" "(a|a)*b"',
    'header :regex "x-long" "(a*)*c"',
    'header :regex "x-long" "(.*)(.*)(.*)(.*)(.*)[b]"',
    `header :comparator "i;unicode-casemap" :matches "x-long" "${'*a'.repeat(500)}b"`,
    'body :raw :matches "*a*a*a*a*a*a*a*a*b"',
  ];
  const host = memoryHost({ message: `X-Long: ${long}\n\n${long}\n` });
  for (const bomb of bombs) {
    const source = `require ["regex", "body", "variables", "comparator-i;unicode-casemap"]; if ${bomb} { discard; }`;
    const compiled = compile(source, { registry });
    if (!compiled.ok) {
      t.fail(JSON.stringify(compiled.diagnostics));
      continue;
    }
    const began = process.cpuUsage();
    const result = await run(compiled.program, host);
    const used = process.cpuUsage(began);
    t.not(result.status, 'tempfail', bomb.slice(0, 60));
    t.notOk(result.actions.some(entry => entry.action === 'discard'));
    t.ok(result.steps < 1_100_000, `${result.steps} steps`);
    // Generous: the same with backtracking would outlast the universe.
    t.ok(
      (used.user + used.system) / 1000 < 4000,
      `${Math.round((used.user + used.system) / 1000)} ms: ${bomb.slice(0, 40)}`,
    );
  }
});

t.test('what would nest or grow without end', async t => {
  const nested = `${'if true { '.repeat(5000)}keep;${' }'.repeat(5000)}`;
  t.notOk(compile(nested, { registry }).ok);
  t.notOk(compile(`if ${'not '.repeat(5000)}true { keep; }`, { registry }).ok);
  t.notOk(compile(`if ${'anyof('.repeat(5000)}true${')'.repeat(5000)} { keep; }`, { registry }).ok);
  t.notOk(compile('#'.repeat(2 << 20), { registry }).ok);
  t.notOk(compile(`redirect "${'a'.repeat(1 << 20)}@example.com";`, { registry, limits: { stringBytes: 1000 } }).ok);
  const doubling = `require "variables"; set "a" "x"; ${'set "a" "${a}${a}${a}${a}"; '.repeat(400)} keep;`;
  const compiled = compile(doubling, { registry });
  t.ok(compiled.ok);
  if (compiled.ok) t.equal((await run(compiled.program, memoryHost())).status, 'ok');
  const many = compile(`${'keep :a; foo; '.repeat(1000)}`, { registry });
  t.ok(many.diagnostics.length <= 100, 'errors are bounded too');
});
