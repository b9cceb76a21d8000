// `reverse-dns` and `helo`: what a client is called, and what it calls itself.
import t, { type Test } from 'tap';
import type { Plugin } from '../../core/plugin/index.ts';
import { helo } from '../../plugins/helo/index.ts';
import { isGenericName } from '../../plugins/reverse-dns/generic-name.ts';
import { reverseDns } from '../../plugins/reverse-dns/index.ts';
import { type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';

async function open(t: Test, tested: Plugin<never>, options: object, setup: PluginSetup): Promise<DrivenPlugin> {
  const p = await plugin(tested as Plugin<unknown>, options, setup);
  t.teardown(() => p.close());
  return p;
}
async function ask(
  p: DrivenPlugin,
  client: { remote: string; identity?: string },
  name = 'mx.b.example',
  to = 'bob@example.org',
) {
  const greeting = await p.connect(client);
  await p.helo(name);
  await p.mail('a@b.example');
  const answer = await p.rcpt(to);
  return { ...answer, evidence: { ...greeting.evidence, ...answer.evidence } };
}

const reverseZone = {
  '1.113.0.203.in-addr.arpa': { PTR: ['mx.b.example'] },
  'mx.b.example': { A: ['203.0.113.1'], AAAA: ['2001:db8::1'] },
  '2.113.0.203.in-addr.arpa': { PTR: ['liar.example', 'also.example'] },
  'liar.example': { A: ['203.0.113.99'] },
  '3.113.0.203.in-addr.arpa': { PTR: ['203-0-113-3.dsl.isp.example'] },
  '203-0-113-3.dsl.isp.example': { A: ['203.0.113.3'] },
  '5.113.0.203.in-addr.arpa': { PTR: ['sick.example'] },
  'sick.example': { fault: 'servfail' as const },
  '6.113.0.203.in-addr.arpa': { fault: 'servfail' as const },
  '7.113.0.203.in-addr.arpa': { PTR: Array.from({ length: 50 }, (_, n) => `n${n}.many.example`) },
  '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa': { PTR: ['mx.b.example'] },
};

t.test('reverse names: confirmed, unconfirmed, missing, generic, unknown; what each is worth', async t => {
  const strict = { missing: 'reject', unconfirmed: 'reject', generic: 'defer' };
  const p = await open(t, reverseDns as Plugin<never>, strict, { dns: reverseZone, relayNetworks: ['203.0.113.4'] });
  t.match(await ask(p, { remote: '203.0.113.1' }), {
    kind: 'continue',
    evidence: { reverse: { kind: 'confirmed', name: 'mx.b.example' } },
  });
  t.match(await ask(p, { remote: '2001:db8::1' }), { kind: 'continue', evidence: { reverse: { kind: 'confirmed' } } });
  t.match(await ask(p, { remote: '203.0.113.2' }), {
    kind: 'reject',
    reply: { code: 550, enhanced: '5.7.25', text: 'Reverse name of the client does not lead back to its address' },
  });
  t.match(await ask(p, { remote: '203.0.113.9' }), { kind: 'reject', reply: { text: /no reverse name/ } });
  t.match(await ask(p, { remote: '203.0.113.3' }), { kind: 'defer', reply: { code: 450, enhanced: '4.7.25' } });
  t.match(await ask(p, { remote: '203.0.113.9' }, 'x', 'postmaster@example.org'), { kind: 'continue' });
  t.match(await ask(p, { remote: '203.0.113.9', identity: 'bob@example.org' }), { kind: 'continue' });
  t.match(await ask(p, { remote: '203.0.113.4' }), { kind: 'continue' }, 'a relay network');
  t.match(await ask(p, { remote: '10.1.2.3' }), { kind: 'continue' });
  for (const remote of ['203.0.113.5', '203.0.113.6'])
    t.match(await ask(p, { remote }), { kind: 'continue', evidence: { reverse: { kind: 'unknown' } } }, 'DNS failure');
  const before = p.host.dnsServer?.asked.length ?? 0;
  await ask(p, { remote: '203.0.113.7' });
  t.equal((p.host.dnsServer?.asked.length ?? 0) - before, 6, 'of fifty names five are followed');

  const unsure = await open(t, reverseDns as Plugin<never>, { ...strict, temperror: 'defer' }, { dns: reverseZone });
  for (const remote of ['203.0.113.5', '203.0.113.6'])
    t.match(await ask(unsure, { remote }), { kind: 'defer', reply: { code: 451, enhanced: '4.7.25' } });
  const marks = await open(t, reverseDns as Plugin<never>, {}, { dns: reverseZone });
  t.match(await ask(marks, { remote: '203.0.113.9' }), {
    kind: 'continue',
    evidence: { reverse: { kind: 'missing' } },
  });
  for (const fault of ['servfail', 'timeout', 'garbage'] as const) {
    marks.host.dnsServer?.setFault(fault);
    t.match(await ask(marks, { remote: '203.0.113.200' }), { kind: 'continue' }, fault);
  }
});

t.test('names of lines, and names of servers', async t => {
  for (const [name, address] of [
    ['203-0-113-3.isp.example', '203.0.113.3'],
    ['3.113.0.203.isp.example', '203.0.113.3'],
    ['host203.0.113.3.isp.example', '203.0.113.3'],
    ['p203000113003.isp.example', '203.0.113.3'],
    ['cb007103.isp.example', '203.0.113.3'],
    ['x.adsl.isp.example', '203.0.113.3'],
    ['x7.dsl.isp.example', '203.0.113.3'],
    ['dynamic-pool-7.isp.example', '203.0.113.3'],
    ['p5b0.dip0.t-ipconnect.example', '203.0.113.3'],
    ['client.dhcp.example', '203.0.113.3'],
    ['20010db8000000000000000000000001.v6.example', '2001:db8::1'],
  ] as const)
    t.ok(isGenericName(name, address), name);
  for (const name of ['mx.b.example', 'mail3.pool.example', 'smtp.customer.example', 'www1.example', 'dynamo.example'])
    t.notOk(isGenericName(name, '203.0.113.3'), name);
});

const heloZone = {
  'mx.b.example': { A: ['203.0.113.1'], AAAA: ['2001:db8::1'] },
  'elsewhere.example': { A: ['203.0.113.99'] },
  'onlymail.example': { MX: [{ exchange: 'mx.b.example', preference: 1 }] },
  'sick.example': { fault: 'servfail' as const },
};

t.test('HELO: every fault, decided for recipients', async t => {
  const accounts = { local: ['example.org'], relay: ['inner.example'] };
  const reject = ['syntax', 'address', 'literal', 'not-qualified', 'own-name', 'unknown-host'];
  const p = await open(
    t,
    helo as Plugin<never>,
    { reject },
    { dns: heloZone, accounts, relayNetworks: ['203.0.113.4'] },
  );
  for (const [name, fault, remote = '203.0.113.1'] of [
    ['mx.b.example', undefined],
    ['MX.B.example.', undefined],
    ['mx.b.example', undefined, '2001:db8::1'],
    ['[203.0.113.1]', undefined],
    ['[IPv6:2001:db8::1]', undefined, '2001:db8::1'],
    ['[IPv6:::ffff:203.0.113.1]', undefined],
    ['elsewhere.example', 'mismatch'],
    ['onlymail.example', 'mismatch'],
    ['inner.example', 'unknown-host'],
    ['nowhere.example', 'unknown-host'],
    ['203.0.113.1', 'address'],
    ['2001:db8::1', 'address'],
    ['[203.0.113.2]', 'literal'],
    ['[nonsense]', 'syntax'],
    ['bad name', 'syntax'],
    ['under_score.example', 'unknown-host'],
    ['-', 'syntax'],
    ['localhost', 'not-qualified'],
    ['gateway.test', 'own-name'],
    ['Example.org', 'own-name'],
  ] as const) {
    const v = await ask(p, { remote }, name);
    const refused = fault !== undefined && fault !== 'mismatch';
    t.equal(v.kind, refused ? 'reject' : 'continue', name);
    t.same(v.evidence['faults'] ?? [], fault === undefined ? [] : [fault], name);
    if (refused) t.match(v.reply, { code: 550, enhanced: '5.7.1', text: /^HELO/ });
  }
  for (const client of [
    { remote: '203.0.113.1', identity: 'bob@example.org' },
    { remote: '203.0.113.4' },
    { remote: '127.0.0.1' },
  ])
    t.match(await ask(p, client, 'gateway.test'), { kind: 'continue' });
  t.match(await ask(p, { remote: '203.0.113.1' }, 'gateway.test', 'postmaster@example.org'), { kind: 'continue' });
  t.match(await ask(p, { remote: '203.0.113.1' }, 'sick.example'), { kind: 'continue' }, 'DNS failure');
  const unsure = await open(
    t,
    helo as Plugin<never>,
    { defer: ['unknown-host'], temperror: 'defer' },
    { dns: heloZone },
  );
  t.match(await ask(unsure, { remote: '203.0.113.1' }, 'sick.example'), { kind: 'defer', reply: { code: 451 } });
  t.match(await ask(unsure, { remote: '203.0.113.1' }, 'nowhere.example'), { kind: 'defer', reply: { code: 450 } });
  t.match(await ask(unsure, { remote: '203.0.113.1' }, 'bad name'), { kind: 'continue' });
  await t.rejects(plugin(helo, { reject: ['mismatch'] }), { name: 'ChainError' });
});
