import { mkdtemp, rm, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { aliases } from '../../plugins/aliases/index.ts';
import { parseAliases, parseVirtual } from '../../plugins/aliases/parse-map.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';

const accounts = {
  local: ['example.org', 'example.net'],
  virtual: ['shop.example', 'catch.example', 'new.example'],
  relay: ['inner.example'],
  users: Object.fromEntries(
    ['bob', 'carol', 'peter', 'petra', 'jim', 'root']
      .map(name => [`${name}@example.org`, 'x'])
      .concat([
        ['real@catch.example', 'x'],
        ['sales@new.example', 'x'],
        ['bob@example.net', 'x'],
      ]),
  ),
};
const files: Readonly<Record<string, string>> = {
  aliases: `# comment
postmaster: root
both: bob,
  carol   , "peter"
  # a comment in between
  , petra@example.org
self: self2
bob: bob, jim
list: :include:members
owner-list: petra
"odd name": jim
nested: both, list, far@elsewhere.example, inner@inner.example
dead: ghost1, ghost2@example.org
halfdead: ghost1, carol
final: \\bob
self2: Display Name <jim@example.org>
`,
  members: 'bob\n# nobody\ncarol, far@elsewhere.example\n',
  virtual: `postmaster@shop.example peter@example.org
sales@shop.example  petra@example.org
@shop.example   jim@example.org
@catch.example  carol@example.org
both@shop.example both@example.org,
   sales@shop.example
@new.example    @shop.example
info            petra@example.org
`,
};

async function setUp(
  t: { teardown(run: () => unknown): void },
  more: object = {},
  content = files,
): Promise<{ p: DrivenPlugin; folder: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-aliases-'));
  t.teardown(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(content)) await writeFile(path.join(folder, name), text);
  const p = await plugin(
    aliases,
    { aliases: ['aliases'], virtual: ['virtual'], ...more },
    { accounts, configFolder: folder },
  );
  t.teardown(() => p.close());
  return { p, folder };
}

async function expand(p: DrivenPlugin, ...to: string[]): Promise<readonly string[]> {
  await p.mail('x@sender.example');
  for (const recipient of to) await p.rcpt(recipient);
  const { outcome } = await p.message('Subject: x\n\nx\n');
  return outcome.kind === 'deliver'
    ? outcome.recipients.map(recipient => recipient.address.text).sort()
    : [outcome.kind];
}

t.test('both syntaxes, nested, lists, catch-alls, local versus virtual', async t => {
  const { p } = await setUp(t);
  const org = (...names: string[]): string[] => names.map(name => `${name}@example.org`);
  const expected: Readonly<Record<string, readonly string[]>> = {
    'both@example.org': org('bob', 'carol', 'jim', 'peter', 'petra'),
    'BOTH@Example.NET': ['petra@example.org', 'bob@example.net'],
    'both+x@example.org': org('bob', 'carol', 'jim', 'peter', 'petra'),
    'bob@example.org': org('bob', 'jim'),
    'final@example.org': org('bob'),
    'self@example.org': org('jim'),
    'list@example.org': ['far@elsewhere.example', ...org('bob', 'carol', 'jim')],
    'nested@example.org': [
      'far@elsewhere.example',
      'inner@inner.example',
      ...org('bob', 'carol', 'jim', 'peter', 'petra'),
    ],
    'halfdead@example.org': org('carol'),
    'postmaster@example.org': org('root'),
    'postmaster@shop.example': org('peter'),
    'sales@shop.example': org('petra'),
    'sales+summer@shop.example': org('petra+summer'),
    'anything@shop.example': org('jim'),
    'both@shop.example': org('bob', 'carol', 'jim', 'peter', 'petra'),
    'real@catch.example': ['real@catch.example'],
    'other@catch.example': org('carol'),
    'sales@new.example': ['sales@new.example'],
    'info@example.org': org('petra'),
    'carol@example.org': org('carol'),
    'list@elsewhere.example': ['list@elsewhere.example'],
  };
  for (const [to, targets] of Object.entries(expected)) t.same(await expand(p, to), [...targets].sort(), to);
  t.same(
    await expand(p, 'both@example.org', 'carol@example.org', 'list@example.org'),
    ['far@elsewhere.example', ...org('bob', 'carol', 'jim', 'peter', 'petra')].sort(),
    'each once',
  );
});

t.test('at RCPT: accepted, passed on, refused early, deferred', async t => {
  const { p } = await setUp(t);
  await p.mail('x@sender.example');
  t.match(await p.rcpt('both@example.org'), { kind: 'accept', evidence: { alias: 'both' } });
  t.match(await p.rcpt('carol@example.org'), { kind: 'continue' }, 'no alias: `recipients` decides');
  t.match(await p.rcpt('nobody@example.org'), { kind: 'continue' });
  t.match(await p.rcpt('dead@example.org'), { kind: 'reject', reply: { code: 550, enhanced: '5.1.1' } });
  t.match(await p.rcpt('halfdead@example.org'), { kind: 'accept', evidence: { unknown: ['ghost1@example.org'] } });
  t.match(await p.rcpt('info@shop.example'), { kind: 'accept', evidence: { alias: '@shop.example' } });
  t.match(await p.rcpt('info@elsewhere.example'), { kind: 'continue' });
  p.host.setUnavailable('ldap down');
  for (const to of ['both@example.org', 'dead@example.org', 'x@catch.example'])
    t.match(await p.rcpt(to), { kind: 'defer', reply: { code: 451, enhanced: '4.3.0' } }, to);
  t.match(await p.message('Subject: x\n\nx\n'), { kind: 'defer', reply: { code: 451 } });
});

t.test('originals and owner', async t => {
  const { p } = await setUp(t);
  await p.mail('x@sender.example');
  await p.rcpt('list@example.org');
  const { outcome } = await p.message('Subject: x\n\nx\n');
  t.match(outcome, { kind: 'deliver', sender: { text: 'owner-list@example.org' } });
  if (outcome.kind === 'deliver') t.equal(outcome.originals.get('carol@example.org'), 'list@example.org');
  await p.rcpt('carol@example.org');
  t.match(
    (await p.message('Subject: x\n\nx\n')).outcome,
    { sender: { text: 'x@sender.example' } },
    'others are on the envelope too',
  );
  await p.mail(null);
  await p.rcpt('list@example.org');
  t.match((await p.message('Subject: x\n\nx\n')).outcome, { kind: 'deliver', sender: null });
});

t.test('a broken file stops the start, and a reload keeps what was', async t => {
  const bad: Readonly<Record<string, readonly [string, RegExp]>> = {
    circle: ['a: b\nb: c@example.org\nc: a\n', /aliases:\d: Aliases go in circles: .*→/],
    program: ['x: "|/usr/bin/procmail"\n', /aliases:1: 'x' delivers to '\|\/usr\/bin\/procmail'/],
    file: ['x: /var/mail/x\n', /aliases:1/],
    syntax: ['# fine\nno colon here\n', /aliases:2: Expected 'name: target, target'/],
    empty: ['x:\n', /aliases:1/],
    address: ['x: a@b@c\n', /aliases:1: 'a@b@c' is no address/],
    include: ['x: :include:nowhere\n', /ENOENT/],
    many: [`x: ${Array.from({ length: 1001 }, (_, i) => `u${i}`).join(', ')}\n`, /more than 1000/],
  };
  for (const [name, [text, message]] of Object.entries(bad))
    await t.rejects(setUp(t, {}, { ...files, aliases: text }), { message }, name);
  await t.rejects(setUp(t, { aliases: ['missing'] }), /ENOENT/);
  const wide = Array.from({ length: 60 }, (_, i) => `l${i}: r${i}, s${i}\nr${i}: l${i + 1}\ns${i}: l${i + 1}\n`).join(
    '',
  );
  const { p: dag } = await setUp(
    t,
    { programs: 'ignore', maxTargets: 10 },
    { ...files, aliases: `${wide}l60: carol\nx: |prog, carol\n` },
  );
  t.same(await expand(dag, 'l0@example.org'), ['carol@example.org'], 'wide and nested, and quick');
  t.same(await expand(dag, 'x@example.org'), ['carol@example.org']);

  const { p, folder } = await setUp(t, { checkEvery: '0s' });
  const file = path.join(folder, 'aliases');
  await writeFile(file, 'both: jim\n');
  t.same(await expand(p, 'both@example.org'), ['jim@example.org'], 'a change is seen');
  await writeFile(file, 'both: broken\nbroken: both\n');
  t.same(await expand(p, 'both@example.org'), ['jim@example.org']);
  t.match(await p.status(), { aliases: Number, problem: /circles/ });
  await unlink(file);
  t.same(await expand(p, 'both@example.org'), ['jim@example.org'], 'a file that is gone changes nothing');
  await writeFile(file, 'both: carol\n');
  await utimes(file, 1, 1);
  t.same(await expand(p, 'both@example.org'), ['carol@example.org']);
  t.notOk((await p.status())['problem']);
  await writeFile(path.join(folder, 'virtual'), 'late@shop.example bob@example.net\n');
  t.same(await expand(p, 'late@shop.example'), ['bob@example.net']);
});

t.test('postmaster; nothing configured costs nothing', async t => {
  const { p } = await setUp(t, { aliases: [], virtual: [], postmaster: 'carol@example.org' });
  for (const to of ['postmaster', 'Postmaster@shop.example', 'postmaster@example.net'])
    t.same(await expand(p, to), ['carol@example.org'], to);
  t.same(await expand(p, 'postmaster@elsewhere.example'), ['postmaster@elsewhere.example']);
  const idle = await plugin(aliases, {}, { accounts });
  t.teardown(() => idle.close());
  await idle.mail(null);
  t.match(await idle.rcpt('x@example.org'), { kind: 'not asked' });
  await t.rejects(plugin(aliases, { postmaster: 'nobody' }), /postmaster/);
});

t.test('syntax in detail', async t => {
  t.match(parseAliases('a : b\r\n"c d": "e f"@x.test, "|run \\"x, y\\" z"\r\n', 'f'), [
    { key: 'a', targets: [{ kind: 'address', text: 'b' }], line: 1 },
    {
      key: 'c d',
      targets: [
        { kind: 'address', text: '"e f"@x.test' },
        { kind: 'program', text: '|run "x, y" z' },
      ],
      line: 2,
    },
  ]);
  t.match(parseVirtual('"a b"@x.test\tc@y.test  ,  :include:/etc/l\n@X.test @Y.test\n', 'f'), [
    { key: '"a b"@x.test', targets: [{ text: 'c@y.test' }, { kind: 'include', file: '/etc/l' }] },
    { key: '@x.test', targets: [{ kind: 'domain', domain: 'y.test' }] },
  ]);
});
