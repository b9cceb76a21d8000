import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { type DkimKeygenOptions, dkimKeygen, zoneLine } from '../../../core/cli/dkim-command.ts';
import { dkimSign } from '../../../plugins/dkim-sign/index.ts';
import { commandLine } from '../../harness/command-line.ts';
import { plugin } from '../../harness/plugin.ts';

function runIn(folder: string, json: boolean) {
  const { context, printed } = commandLine(folder, json);
  return async (domain: string, selector: string, options: DkimKeygenOptions = {}) => {
    const code = await dkimKeygen(context, domain, selector, options);
    return { code, out: printed() };
  };
}

t.test('keygen: a key that signs, a record that verifiers find', async t => {
  const folder = t.testdir();
  const keygen = runIn(folder, true);
  for (const [selector, options] of [
    ['2026a', {}],
    ['2026e', { type: 'ed25519' }],
    ['long', { bits: '4096' }],
  ] as const) {
    const { code, out } = await keygen('Example.ORG', selector, options);
    t.equal(code, 0);
    const said = JSON.parse(out) as { name: string; file: string; record: string };
    t.equal(said.name, `${selector}._domainkey.example.org`);
    t.equal(said.file, path.join(folder, 'dkim', `example.org.${selector}.pem`));
    t.equal(statSync(said.file).mode & 0o777, 0o600);
    t.match(readFileSync(said.file, 'utf8'), /^-----BEGIN PRIVATE KEY-----/);
    const p = await plugin(
      dkimSign,
      { keys: [{ domain: 'example.org', selector, key: said.file }] },
      { dns: { [said.name]: { TXT: [said.record.match(/.{1,255}/g) ?? []] } } },
    );
    t.same(await p.status(), { [said.name]: 'published' });
    await p.close();
  }
});

t.test('keygen: what people read, and what it refuses', async t => {
  const folder = t.testdir();
  const keygen = runIn(folder, false);
  const { out } = await keygen('example.org', 's1');
  t.match(out, /^s1\._domainkey\.example\.org\. IN TXT \(\n {2}"v=DKIM1; k=rsa; p=/m);
  for (const [text] of out.matchAll(/"[^"]*"/g)) t.ok(text.length <= 257);
  t.match(out, '{ domain: example.org, selector: s1, key: dkim/example.org.s1.pem }');
  t.equal(zoneLine('a', 'b'), 'a. IN TXT "b"');
  await t.rejects(keygen('example.org', 's1'), /exists already/, 'a key in use is not overwritten');
  await t.rejects(keygen('nodots', 's'), /is no domain/);
  await t.rejects(keygen('[192.0.2.1]', 's'), /is no domain/);
  await t.rejects(keygen('example.org', '../x'), /is no selector/);
  await t.rejects(keygen('example.org', 's', { type: 'dsa' }), /Type 'dsa'/);
  await t.rejects(keygen('example.org', 's', { bits: '512' }), /1024 to 4096/);
  await t.rejects(keygen('example.org', 's', { out: 'dkim/example.org.s1.pem' }), /Cannot write/);
});
