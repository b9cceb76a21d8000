import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { readMessage } from '../../core/mail/message.ts';
import { fileRope } from '../../core/mail/rope.ts';
import { rfc822 } from '../../plugins/rfc822/index.ts';
import { rules } from '../../plugins/rfc822/rules.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';

const head =
  'From: Alice <a@b.test>\nTo: c@example.org\nDate: Sat, 21 Nov 2026 06:00:00 +0000\nMessage-ID: <1@b.test>\nSubject: x\n';
const good = `${head}\nbody\n`;
const without = (name: string): string => good.replace(new RegExp(`^${name}:.*\n`, 'm'), '');
const multipart = (body: string, type = 'multipart/mixed; boundary=b'): string =>
  `${head}MIME-Version: 1.0\nContent-Type: ${type}\n\n${body}`;

/** One broken message per rule. */
const broken: Readonly<Record<string, string | Buffer>> = {
  'missing-from': without('From'),
  'duplicate-from': `From: eve@b.test\n${good}`,
  'missing-date': without('Date'),
  'missing-message-id': without('Message-ID'),
  'duplicate-field': `Subject: y\nTo: d@example.org\n${good}`,
  'bad-from': good.replace('a@b.test', 'a b c'),
  'bad-address': good.replace('c@example.org', 'c@@example..org'),
  'missing-sender': good.replace('Alice <a@b.test>', 'a@b.test, d@b.test'),
  'bad-date': good.replace('21 Nov', '31 Nov'),
  'bad-field': `${head}this line has no colon\n\nbody\n`,
  'eight-bit-header': good.replace('Subject: x', 'Subject: Grüße'),
  'bad-mime-version': good.replace('Subject: x', 'Content-Type: text/plain'),
  'bad-content-type': good.replace('Subject: x', 'MIME-Version: 1.0\nContent-Type: text'),
  'bad-boundary': multipart('--b\n\nx\n'),
  'bad-encoding': good.replace(
    'Subject: x',
    'MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: base46',
  ),
  'ambiguous-mime': good.replace('Subject: x', 'MIME-Version: 1.0\nContent-Type: text/plain\nContent-Type: text/html'),
  nul: good.replace('body', 'bo\0dy'),
  'long-line': good.replace('body', 'x'.repeat(999)),
  'bare-line-end': Buffer.from(`${good.replaceAll('\n', '\r\n')}bare\nline\r\n`),
};

async function start(p: DrivenPlugin, smtputf8 = false): Promise<void> {
  await p.mail('a@b.test', { smtputf8 });
  await p.rcpt('c@example.org');
}
/** Names of the broken rules. */
const found = ({ evidence = {} }: { readonly evidence?: object }): readonly string[] =>
  Object.keys(evidence).filter(key => key !== 'edits');
const all = (action: string): object => Object.fromEntries(rules.map(({ name }) => [name, action]));

t.test('each rule finds its fault and no other does, refuses with a text of its own, and names its clause', async t => {
  const p = await plugin(rfc822, { rules: all('refuse') });
  t.teardown(() => p.close());
  await start(p);
  t.match(await p.message(good), { kind: 'continue' });
  t.match(await p.message(multipart('--b\n\nx\n--b--\n')), { kind: 'continue' });
  t.same(Object.keys(broken).sort(), rules.map(({ name }) => name).sort(), 'a case for each rule');
  for (const rule of rules) {
    const v = await p.message(broken[rule.name] ?? '');
    t.match(v, { kind: 'reject', reply: { code: 550, enhanced: '5.6.0', text: rule.text } }, rule.name);
    t.match(Object.keys(v.evidence ?? {}), [rule.name]);
    t.match(v.evidence?.[rule.name], `refuse: ${rule.clause}`);
  }
});

t.test('defaults: honest mail passes untouched, sloppy mail is marked, what splits readers is refused', async t => {
  const p = await plugin(rfc822);
  t.teardown(() => p.close());
  await start(p);
  const clean = await p.message(good);
  t.same(clean.evidence, undefined);
  t.equal(
    clean.outcome.kind === 'deliver' && (await clean.outcome.message.bytes()).toString(),
    good.replaceAll('\n', '\r\n'),
  );
  const marked = await p.message(without('Date'));
  t.match(marked, { kind: 'continue', evidence: { 'missing-date': /^mark/ } });
  if (marked.outcome.kind === 'deliver') {
    t.equal(marked.outcome.message.headers.get('X-Rfc822-Faults')?.value, 'missing-date');
    t.notOk(marked.outcome.message.headers.has('Date'), 'mail of others is not repaired');
  }
  for (const name of ['duplicate-from', 'nul']) t.match(await p.message(broken[name] ?? ''), { kind: 'reject' }, name);
  t.match(await p.message(good.replace('Subject: x', 'Subject: =?utf-8?q?x?=')), { kind: 'continue' });
  await start(p, true);
  t.same((await p.message(broken['eight-bit-header'] ?? '')).evidence, undefined, 'SMTPUTF8 allows it');
});

t.test('repairs for our own users, quarantine, and a silent mark', async t => {
  const repair = Object.fromEntries(rules.filter(rule => rule.repair).map(({ name }) => [name, 'repair']));
  const p = await plugin(rfc822, { rules: repair }, { relayNetworks: ['198.51.100.0/24'] });
  t.teardown(() => p.close());
  for (const client of [{ identity: 'a@b.test' }, { role: 'submission' as const }, { remote: '198.51.100.1' }]) {
    await p.connect(client);
    await start(p);
    const { outcome } = await p.message('Subject: one\nSubject: two\nContent-Type: text/plain\n\nbody\n');
    t.equal(outcome.kind, 'deliver');
    if (outcome.kind !== 'deliver') continue;
    const { headers } = outcome.message;
    t.equal(headers.get('From')?.value, 'a@b.test');
    t.match(headers.get('Message-ID')?.value, /^<q\d+@gateway\.test>$/);
    t.match(headers.get('Date')?.value, /^\w{3}, \d+ \w{3} \d{4}/);
    t.equal(headers.get('MIME-Version')?.value, '1.0');
    t.same(
      headers.all('Subject').map(field => field.value),
      ['one'],
    );
    const again = await p.message(outcome.message);
    t.same(again.evidence, undefined, 'nothing is left to repair');
    const dated = await p.message(broken['bad-date'] ?? '');
    if (dated.outcome.kind === 'deliver') t.equal(dated.outcome.message.headers.all('Date').length, 1);
  }
  const q = await plugin(rfc822, { rules: { 'missing-date': 'quarantine', 'missing-message-id': 'mark' }, header: '' });
  t.teardown(() => q.close());
  await start(q);
  t.match((await q.message(without('Date'))).outcome, { kind: 'quarantine', why: 'missing-date' });
  const silent = await q.message(without('Message-ID'));
  t.match(silent, { kind: 'continue', evidence: { 'missing-message-id': String } });
  if (silent.outcome.kind === 'deliver') t.notOk(silent.outcome.message.headers.has('X-Rfc822-Faults'));
  await t.rejects(
    plugin(rfc822, { rules: { nul: 'repair' } }),
    { name: 'ChainError' },
    'what cannot be repaired cannot be set so',
  );
  await t.rejects(plugin(rfc822, { rules: { 'mising-date': 'mark' } }), { name: 'ChainError' });
});

t.test('a spooled message is read in pieces with the same result', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-rfc822-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const p = await plugin(rfc822, { rules: all('mark') });
  t.teardown(() => p.close());
  await start(p);
  const filler = 'x'.repeat(997).concat('\n').repeat(300);
  const cases = {
    none: `${good}${filler}`,
    'long-line': `${good}${filler}${'y'.repeat(70_000)}\n${filler}`,
    nul: `${good}${filler}\0\n${filler}`,
  };
  for (const [name, text] of Object.entries(cases)) {
    const file = path.join(folder, name);
    const bytes = Buffer.from(text.replaceAll('\n', '\r\n'));
    await writeFile(file, bytes);
    const spooled = await p.message(await readMessage(fileRope(file, 0, bytes.length)));
    const inMemory = await p.message(bytes);
    t.same(spooled.evidence, inMemory.evidence, name);
    t.same(found(spooled), name === 'none' ? [] : [name]);
  }
  const split = Buffer.concat([
    Buffer.from(good.replaceAll('\n', '\r\n')),
    Buffer.from('z'.repeat(65_536 * 2 - good.length - 8)),
    Buffer.from('\r\nx\r\n'),
  ]);
  const file = path.join(folder, 'split');
  await writeFile(file, split);
  t.same(found(await p.message(await readMessage(fileRope(file, 0, split.length)))), ['long-line']);
});
