import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';
import { addressLabel } from '../../core/plugin/dns-list.ts';
import { classify, parseCodeRule } from '../../core/plugin/return-codes.ts';
import { dnsbl } from '../../plugins/dnsbl/index.ts';
import type { Zone } from '../harness/dns-server.ts';
import { requireEngines } from '../harness/engine.ts';
import { type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { testHost } from '../harness/plugin-host.ts';
import { startRbldnsd } from '../harness/rbldnsd.ts';

/** A list that works as RFC 5782 §5 says. */
const working = (zone: string): Zone => ({ [`2.0.0.127.${zone}`]: { A: ['127.0.0.2'] } });
const listed = (address: string, zone: string, code = '127.0.0.2', text?: string): Zone => ({
  [`${addressLabel(address)}.${zone}`]: { A: [code], ...(text ? { TXT: [text] } : {}) },
});
const zone: Zone = {
  ...working('bl.test'),
  ...working('white.test'),
  ...working('codes.test'),
  'test.dom.test': { A: ['127.0.1.2'] },
  ...listed('192.0.2.1', 'bl.test', '127.0.0.2', 'See https://bl.test/q?192.0.2.1\r\n550 injected'),
  ...listed('2001:db8::1', 'bl.test'),
  ...listed('192.0.2.2', 'bl.test'),
  ...listed('192.0.2.2', 'white.test', '127.0.10.1'),
  ...listed('192.0.2.3', 'codes.test', '127.0.0.10'),
  ...listed('192.0.2.4', 'codes.test', '127.0.0.4'),
  ...listed('192.0.2.5', 'bl.test', '127.255.255.254'),
  ...listed('192.0.2.6', 'bl.test', '10.1.2.3'),
  'evil.example.dom.test': { A: ['127.0.1.4'], TXT: ['bad domain'] },
};
const list = (name: string, more: object = {}) => ({ zone: name, selfTest: false, ...more });

async function open(
  t: { teardown(run: () => unknown): void },
  options: object,
  setup: PluginSetup = {},
): Promise<DrivenPlugin> {
  const p = await plugin(dnsbl, { when: 'connect', ...options }, { dns: zone, ...setup });
  t.teardown(() => p.close());
  return p;
}

t.test('at the greeting: IPv4, mapped, IPv6; the text in the reply is clean and the trace tells all', async t => {
  const p = await open(t, { lists: [list('bl.test')] });
  const v = await p.connect({ remote: '192.0.2.1' });
  t.match(v, {
    kind: 'reject',
    reply: {
      code: 554,
      enhanced: '5.7.1',
      text: '192.0.2.1 is listed by bl.test: See https://bl.test/q?192.0.2.1 550 injected',
    },
  });
  t.match(v.evidence, { score: 1, listed: [{ list: 'bl.test', codes: ['127.0.0.2'], text: /^See https/ }] });
  t.match(await p.connect({ remote: '::ffff:192.0.2.1' }), { kind: 'reject' });
  t.match(await p.connect({ remote: '2001:db8::1' }), { kind: 'reject' });
  t.match(await p.connect({ remote: '2001:db8::2' }), { kind: 'continue' });
  t.match(await p.connect({ remote: '192.0.2.99' }), { kind: 'continue' });
  const asked = p.host.dnsServer?.asked.length;
  for (const remote of ['127.0.0.1', '10.1.2.3', 'fd00::1', '::1'])
    t.match(await p.connect({ remote }), { kind: 'continue' });
  t.equal(p.host.dnsServer?.asked.length, asked, 'private networks are not looked up');
});

t.test('at the recipient: users, relay networks and postmaster are spared; allow lists; domains', async t => {
  const lists = [
    list('bl.test'),
    list('white.test', { kind: 'allow' }),
    list('dom.test', { kind: 'domain', of: ['sender', 'helo'] }),
  ];
  const p = await open(t, { when: 'rcpt', lists }, { relayNetworks: ['192.0.2.77'] });
  t.match(await p.connect({ remote: '192.0.2.1' }), { kind: 'continue' });
  await p.mail('a@good.example');
  t.match(await p.rcpt('bob@example.org'), { kind: 'reject', reply: { code: 554 } });
  t.match(await p.rcpt('Postmaster@example.org'), { kind: 'continue' });
  const asked = p.host.dnsServer?.asked.length;
  t.match(await p.rcpt('carol@example.org'), { kind: 'reject' });
  t.equal(p.host.dnsServer?.asked.length, asked, 'asked once for a transaction');
  await p.connect({ remote: '192.0.2.1', identity: 'bob@example.org' });
  await p.mail('bob@example.org');
  t.match(await p.rcpt('x@there.example'), { kind: 'continue' });
  await p.connect({ remote: '192.0.2.2' });
  await p.mail('a@good.example');
  t.match(await p.rcpt('bob@example.org'), { kind: 'continue', evidence: { allowed: ['white.test'] } });
  await p.connect({ remote: '192.0.2.88' });
  await p.helo('[192.0.2.88]');
  await p.mail('a@evil.example');
  t.match(await p.rcpt('bob@example.org'), {
    kind: 'reject',
    reply: { text: 'evil.example is listed by dom.test: bad domain' },
  });
  await p.mail(null);
  t.match(await p.rcpt('bob@example.org'), { kind: 'continue' });
  await p.helo('evil.example');
  await p.mail(null);
  t.match(await p.rcpt('bob@example.org'), { kind: 'reject' });
});

t.test('return codes, weights, threshold and the milder actions', async t => {
  const codes = { '127.0.0.10-127.0.0.11': 0, '127.0.0.4': 0.6 };
  const lists = [list('codes.test', { codes }), list('bl.test', { weight: 0.5 })];
  const p = await open(t, { lists, threshold: 0.6, reply: 'generic', action: 'defer' });
  t.match(await p.connect({ remote: '192.0.2.3' }), { kind: 'continue' }, 'weight 0');
  t.match(await p.connect({ remote: '192.0.2.4' }), {
    kind: 'defer',
    reply: { code: 450, text: 'Refused because of a block list' },
  });
  t.match(await p.connect({ remote: '192.0.2.1' }), { kind: 'continue', evidence: { score: 0.5 } });
  for (const action of ['mark', 'quarantine'] as const) {
    const m = await open(t, { when: 'rcpt', lists: [list('bl.test')], action });
    await m.connect({ remote: '192.0.2.1' });
    await m.mail('a@b.example');
    t.match(await m.rcpt('bob@example.org'), { kind: 'continue' });
    const { outcome } = await m.message('Subject: x\n\nx\n');
    t.equal(outcome.kind, action === 'mark' ? 'deliver' : 'quarantine');
    if ('message' in outcome) t.equal(outcome.message.headers.get('X-DNSBL')?.value, 'bl.test (127.0.0.2)');
  }
  for (const code of ['127.255.255.254', '127.0.0.1', '127.0.0.255']) t.equal(classify([code]).kind, 'refused', code);
  t.ok(parseCodeRule('&4')('127.0.0.6'));
  t.notOk(parseCodeRule('&4')('127.0.0.2'));
  t.ok(parseCodeRule('127.0.0.0/24')('127.0.0.9'));
  t.notOk(parseCodeRule('127.0.0.0/24')('127.0.1.9'));
  await t.rejects(plugin(dnsbl, { lists: [list('x.test', { codes: { '127.0.0.2x': 1 } })] }), /return code/);
  await t.rejects(plugin(dnsbl, { lists: [{ zone: 'no zone' }] }), { name: 'ChainError' });
});

t.test('fails open: refusal codes, foreign addresses, dead servers', async t => {
  const patient = await open(t, { lists: [list('bl.test')] });
  t.match(await patient.connect({ remote: '192.0.2.5' }), {
    kind: 'continue',
    evidence: { unavailable: [/refuses our resolver/] },
  });
  t.match(await patient.connect({ remote: '192.0.2.6' }), {
    kind: 'continue',
    evidence: { unavailable: [/outside of 127/] },
  });
  const p = await open(t, { lists: [list('bl.test')], listTimeout: '300ms' });
  for (const fault of ['servfail', 'refused', 'timeout', 'garbage'] as const) {
    p.host.dnsServer?.setFault(fault);
    t.match(
      await p.connect({ remote: '192.0.2.1' }),
      { kind: 'continue', evidence: { unavailable: [/bl.test/] } },
      fault,
    );
  }
});

t.test('self-test: at start and hourly; a list that fails is left out until it works', async t => {
  let tick: (() => void) | undefined;
  const clock = {
    ...systemClock,
    after(ms: number, run: () => void) {
      if (ms !== 3_600_000) return systemClock.after(ms, run);
      tick = run;
      return () => {
        tick = undefined;
      };
    },
  };
  const host = await testHost({ dns: zone, clock });
  t.teardown(() => host.close());
  const everything = { ...zone, '*.bl.test': { A: ['127.0.0.2'], ttl: 0 } };
  host.dnsServer?.setZone(everything);
  const p = await plugin(dnsbl, { when: 'connect', lists: [{ zone: 'bl.test' }, { zone: 'gone.test' }] }, { host });
  const settled = async (wanted: RegExp): Promise<unknown> => {
    for (;;) {
      const status = await p.status();
      if (wanted.test(JSON.stringify(status))) return status;
      await new Promise(setImmediate);
    }
  };
  t.match(await settled(/everything.*gone|gone.*everything/s), { 'bl.test': /everything/, 'gone.test': /gone/ });
  t.match(await p.connect({ remote: '192.0.2.1' }), {
    kind: 'continue',
    evidence: { unavailable: [/everything/, /gone/] },
  });
  host.dnsServer?.setZone(zone);
  t.ok(tick);
  tick?.();
  await settled(/"bl.test":"works"/);
  t.match(await p.connect({ remote: '192.0.2.1' }), { kind: 'reject' });
  await p.close();
  t.equal(tick, undefined, 'no timer stays');
});

t.test('a key is asked with and never shown; the npm package as engine, its hits verified', async t => {
  const keyed: Zone = {
    ...listed('192.0.2.1', 'secretkey.dq.test'),
    ...listed('192.0.2.5', 'secretkey.dq.test', '127.255.255.254'),
  };
  for (const engine of ['own', 'dnsbl'] as const) {
    const host = await testHost({ dns: keyed });
    t.teardown(() => host.close());
    await writeFile(path.join(host.dataDir, 'key'), 'secretkey\n');
    const options = { when: 'connect', engine, lists: [list('dq.test', { key: { file: 'key' } })] };
    const p = await plugin(dnsbl, options, { host });
    t.teardown(() => p.close());
    const v = await p.connect({ remote: '192.0.2.1' });
    t.match(v, { kind: 'reject' }, engine);
    t.notMatch(JSON.stringify([v, await p.status()]), /secretkey/);
    t.match(await p.connect({ remote: '192.0.2.5' }), { kind: 'continue', evidence: { unavailable: [/refuses/] } });
    t.match(await p.connect({ remote: '192.0.2.9' }), { kind: 'continue' });
    host.dnsServer?.setFault('servfail');
    const failed = await p.connect({ remote: '192.0.2.7' });
    t.equal(failed.kind, 'continue');
    t.notMatch(JSON.stringify(failed), /secretkey/);
  }
});

t.test('many lists under one deadline warn of nothing', async t => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on('warning', onWarning);
  const p = await open(t, { lists: Array.from({ length: 40 }, (_, i) => list(`l${i}.test`)) });
  await p.connect({ remote: '192.0.2.1' });
  await new Promise(setImmediate);
  process.off('warning', onWarning);
  t.same(warnings, []);
});

t.test('on a real rbldnsd: addresses of both families, an allow list, codes, a key, self-test', async t => {
  if (!requireEngines(t, 'dnsbl', 'rbldnsd')) return;
  const server = await startRbldnsd(t, {
    'zen.test': {
      type: 'ip4set',
      lines: ':127.0.0.2:https://zen.test/ip/$\n127.0.0.2\n192.0.2.0/28\n192.0.2.32 :127.0.0.10:policy',
    },
    'six.test': { type: 'ip6trie', lines: ':127.0.0.2:six\n2001:db8:bad::/48\n::ffff:127.0.0.2/128' },
    'white.test': { type: 'ip4set', lines: ':127.0.3.1:known\n127.0.0.2\n192.0.2.2' },
    'thekey.dq.test': { type: 'ip4set', lines: ':127.0.0.3:keyed\n127.0.0.2\n192.0.2.77' },
    'all.test': { type: 'ip4set', lines: ':127.0.0.2:all\n127.0.0.0/24' },
    'shut.test': { type: 'ip4set', lines: ':127.255.255.254:public resolver\n127.0.0.2' },
  });
  const dns = createDns({ clock: systemClock, servers: [server.address], attemptMs: 10_000, totalMs: 20_000 });
  t.teardown(() => dns.close());
  const lists = [
    { zone: 'zen.test', codes: { '127.0.0.2-127.0.0.9': 1, '127.0.0.10-127.0.0.11': 0.5 } },
    { zone: 'six.test', selfTest: false },
    { zone: 'white.test', kind: 'allow' },
    { zone: 'dq.test', key: { env: 'DQS_KEY' } },
    { zone: 'all.test' },
    { zone: 'shut.test' },
  ];
  const setup = { dns, env: { DQS_KEY: 'thekey' } };
  const p = await open(t, { lists, listTimeout: '20s' }, setup);
  for (let status = ''; /not yet tested/.test(status) || status === ''; ) {
    status = JSON.stringify(await p.status());
    await new Promise(setImmediate);
  }
  t.match(await p.status(), {
    'zen.test': 'works',
    'white.test': 'works',
    'dq.test': 'works',
    'all.test': /seems to list everything/,
    'shut.test': /refuses our resolver/,
  });
  t.match(await p.connect({ remote: '192.0.2.3' }), {
    kind: 'reject',
    reply: { text: /https:..zen.test.ip.192.0.2.3/ },
  });
  t.match(await p.connect({ remote: '192.0.2.32' }), { kind: 'continue', evidence: { score: 0.5 } });
  t.match(await p.connect({ remote: '192.0.2.2' }), {
    kind: 'continue',
    evidence: { allowed: ['white.test'], score: 0 },
  });
  t.match(await p.connect({ remote: '192.0.2.77' }), { kind: 'reject', evidence: { listed: [{ list: 'dq.test' }] } });
  t.match(await p.connect({ remote: '2001:db8:bad::1' }), {
    kind: 'reject',
    evidence: { listed: [{ list: 'six.test' }] },
  });
  t.match(await p.connect({ remote: '198.51.100.1' }), { kind: 'continue' });
  await t.rejects(plugin(dnsbl, { lists: [{ zone: 'x.test', key: { env: 'ABSENT' } }] }), /'ABSENT' is not set/);
  const untested = lists.map(each => ({ ...each, selfTest: false }));
  const hurried = await open(t, { lists: untested, listTimeout: '300ms' }, setup);
  server.freeze();
  t.match(await hurried.connect({ remote: '198.51.100.2' }), {
    kind: 'continue',
    evidence: { unavailable: [/zen.test/] },
  });
  server.thaw();
  await server.kill();
  t.match(await hurried.connect({ remote: '198.51.100.3' }), {
    kind: 'continue',
    evidence: { unavailable: [/zen.test/] },
  });
});
