import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { ChainEntry } from '../../core/pipeline/loaded-entry.ts';
import type { Plugin } from '../../core/plugin/contract.ts';
import { arcSeal } from '../../plugins/arc-seal/index.ts';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import { corpusMessages } from '../harness/corpus.ts';
import type { Zone } from '../harness/dns-server.ts';
import { forgeArcSet, makeKey } from '../harness/forge-signature.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';

const keys = { rsa: makeKey('rsa'), ed: makeKey('ed25519') };
const strings = (text: string) => [text.match(/.{1,255}/g) ?? []];
const zone: Zone = {
  'rsa._domainkey.one.test': { TXT: strings(`v=DKIM1; k=rsa; p=${keys.rsa.published}`) },
  'ed._domainkey.two.test': { TXT: [`v=DKIM1; k=ed25519; p=${keys.ed.published}`] },
  'dead._domainkey.one.test': { TXT: ['v=DKIM1; p='] },
};
const before: readonly ChainEntry[] = [
  {
    name: 'mail-auth',
    plugin: mailAuth as Plugin<unknown>,
    options: { dmarc: { policy: 'report' } },
    timeoutMs: 10_000,
    onError: 'defer',
    mode: 'enforce',
  },
];
const text = 'From: Ann <ann@author.test>\nTo: bob@example.test\nSubject: hello\n\nHi.\n';

async function sealer(t: { teardown(run: () => unknown): void }, folder: string, options: object) {
  for (const [name, { privateKey }] of Object.entries(keys))
    writeFileSync(path.join(folder, `${name}.pem`), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  const accounts = { local: ['here.test'] };
  const p = await plugin(arcSeal, options, { dns: zone, configFolder: folder, before, accounts });
  t.teardown(() => p.close());
  return p;
}

async function pass(p: DrivenPlugin, message: string | Buffer, to = 'bob@elsewhere.test', client = {}) {
  await p.connect({ remote: '192.0.2.1', ...client });
  await p.helo('client.test');
  await p.mail('x@nowhere.test');
  await p.rcpt(to);
  const answer = await p.message(message);
  const bytes = answer.outcome.kind === 'deliver' ? await answer.outcome.message.bytes() : Buffer.alloc(0);
  return { sealed: answer.evidence?.['sealed'], chain: answer.evidence?.['chain'], bytes };
}

t.test('sets that verify, hop after hop, over real mail', async t => {
  const folder = t.testdir();
  const one = await sealer(t, folder, { domain: 'one.test', selector: 'rsa', key: 'rsa.pem' });
  const two = await sealer(t, folder, { domain: 'two.test', selector: 'ed', key: 'ed.pem' });
  const verifier = await plugin(mailAuth, {}, { dns: zone });
  t.teardown(() => verifier.close());
  const verdict = async (bytes: Buffer): Promise<unknown> => {
    await verifier.connect();
    await verifier.mail('x@nowhere.test');
    await verifier.rcpt('bob@example.test');
    return (await verifier.message(bytes)).evidence?.['arc'];
  };
  const real = corpusMessages(40).map(({ bytes }) => {
    const mail = bytes
      .toString('latin1')
      .replace(/\r(?!\n)|\0/g, ' ')
      .replace(/^From:.*\r\n(?:[ \t].*\r\n)*/gim, '');
    return Buffer.from(`From: Ann <ann@author.test>\r\n${mail}`, 'latin1');
  });
  for (const bytes of [Buffer.from(text.replaceAll('\n', '\r\n')), ...real]) {
    const first = await pass(one, bytes);
    t.match(first, { sealed: 1, chain: 'none' });
    t.match(await verdict(first.bytes), { result: 'pass', instance: 1, sealer: 'one.test' });
    // The next hop tags the subject before it seals: our plugin is handed what stands then.
    const second = await pass(two, Buffer.concat([Buffer.from('X-Seen: two\r\n'), first.bytes]));
    t.match(second, { sealed: 2, chain: 'pass' });
    t.match(await verdict(second.bytes), { result: 'pass', instance: 2, sealer: 'two.test' });
  }
  const fields = (await pass(one, text)).bytes.toString('latin1');
  t.match(
    fields,
    /^ARC-Seal: i=1;[\s\S]*\r\nARC-Message-Signature: i=1;[\s\S]*\r\nARC-Authentication-Results: i=1; gateway\.test;/,
  );
  t.match(
    fields,
    /ARC-Authentication-Results: i=1; gateway\.test;\r\n\tspf=none [\s\S]*dmarc=none header\.from=author\.test/,
  );
  t.match(await one.status(), { 'rsa._domainkey.one.test': 'published' });
});

t.test('what is sealed, and what must not be', async t => {
  const folder = t.testdir();
  const options = { domain: 'one.test', selector: 'rsa', key: 'rsa.pem' };
  const p = await sealer(t, folder, options);
  t.equal((await pass(p, text, 'bob@here.test')).sealed, undefined, 'what stays here');
  t.equal((await pass(p, text, 'bob@elsewhere.test', { identity: 'ann' })).sealed, undefined, 'mail of our own');
  t.equal((await pass(p, 'Subject: nobody wrote this\n\nHi.\n')).sealed, undefined);
  const always = await sealer(t, folder, { ...options, when: 'always' });
  t.equal((await pass(always, text, 'bob@here.test')).sealed, 1);
  const sealed = (await pass(p, text)).bytes.toString('latin1');
  const broken = Buffer.from(sealed.replace('Subject: hello', 'Subject: bye'), 'latin1');
  const failed = await pass(p, broken);
  t.match(failed, { sealed: 2, chain: 'fail' }, 'a broken chain is sealed as broken');
  t.match(failed.bytes.toString('latin1'), /^ARC-Seal: i=2;[\s\S]*?cv=fail/);
  t.equal((await pass(p, failed.bytes)).sealed, undefined, 'and never again');
  const set = (i: number) => ({
    aar: `i=${i}; one.test; spf=pass`,
    ams: `i=${i}; a=rsa-sha256; c=relaxed/relaxed; d=one.test; s=rsa; h=from; bh={bh}`,
    as: `i=${i}; a=rsa-sha256; cv=${i === 1 ? 'none' : 'pass'}; d=one.test; s=rsa`,
  });
  let full = text.replaceAll('\n', '\r\n');
  for (let i = 1; i <= 50; i++) full = forgeArcSet(full, set(i), { key: keys.rsa });
  t.equal((await pass(p, Buffer.from(full, 'latin1'))).sealed, undefined, 'fifty sets are the most');
  for (const key of ['absent.pem', 'none.pem'])
    await t.rejects(sealer(t, folder, { ...options, key }), /Cannot read the key/);
  await t.rejects(
    plugin(arcSeal, { ...options, key: path.join(folder, 'rsa.pem') }),
    { name: 'ChainError' },
    'mail-auth comes before it',
  );
});
