import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { createDns } from '../../../core/net/dns.ts';
import { planAddresses } from '../../../core/relay/host-plan.ts';
import { createMtaSts, stsAllows, stsMigrations } from '../../../core/relay/mta-sts.ts';
import { createRouteTable, destinationOf, parseNextHop } from '../../../core/relay/route.ts';
import { parseTransportMap } from '../../../core/relay/transport-map.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { startDnsServer } from '../../harness/dns-server.ts';
import { address, never, target } from './peers.ts';

t.test('next hops', async t => {
  const cases: readonly [string, object | undefined][] = [
    ['mail.test', { host: 'mail.test', port: 25, mx: true }],
    ['Mail.Test.:2525', { host: 'mail.test', port: 2525, mx: true }],
    ['[mail.test]:submission', { host: 'mail.test', port: 587, mx: false }],
    ['[192.0.2.1]', { host: '192.0.2.1', port: 25, mx: false }],
    ['[IPv6:2001:db8::1]:26', { host: '2001:db8::1', port: 26, mx: false }],
    ['2001:db8::1', { host: '2001:db8::1', port: 25, mx: false }],
    ['/run/lmtp', { host: '/run/lmtp', port: 0, mx: false }],
    [`/${'x'.repeat(107)}`, undefined],
    ['mail.test:99999', undefined],
    ['mail test', undefined],
    ['[]', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of cases) t.same(parseNextHop(text, 25, true), expected, text);
});

t.test('transport(5): what it says, and what it does not understand', async t => {
  const map = parseTransportMap(
    [
      '# comment',
      'example.org      smtp:[inner.example.org]:2525, [second.example.org]',
      'bob@example.org  lmtp:unix:/run/dovecot/lmtp',
      '.example.org     relay:',
      'list.example.org',
      '   lmtp:inet:127.0.0.1:24',
      'gone.test        error:no such place any more',
      'here.test        local:',
      'void.test        discard:',
      'as-usual.test    :',
      'hop.test         :[192.0.2.1]',
      'odd.test         uucp:x',
      'bad.test         smtp:[[',
      '*                smtps:[smart.host]',
    ].join('\n'),
    { tls: { kind: 'opportunistic' }, direct: true },
  );
  t.match(map.problems, [
    { line: 12, message: 'Unknown transport "uucp"' },
    { line: 13, message: /Not a next hop/ },
  ]);
  const table = createRouteTable(map.entries);
  const of = (text: string) => table.lookUp(address(text))?.target;
  const first = of('al@example.org');
  t.match(first, { kind: 'relay', hosts: [{ host: 'inner.example.org', port: 2525, mx: false }, { port: 25 }] });
  t.equal(
    first?.kind === 'relay' && destinationOf(first, 'example.org'),
    'smtp:[inner.example.org]:2525,[second.example.org]:25',
  );
  t.match(of('bob@example.org'), { protocol: 'lmtp', hosts: [{ host: '/run/dovecot/lmtp' }] });
  t.match(of('bob+tag@example.org'), { protocol: 'lmtp' });
  t.match(of('x@deep.sub.example.org'), { kind: 'relay', hosts: [] });
  t.match(of('x@list.example.org'), { protocol: 'lmtp', hosts: [{ host: '127.0.0.1', port: 24 }] });
  t.match(of('x@gone.test'), { kind: 'error', text: 'no such place any more' });
  t.match(of('x@here.test'), { kind: 'local' });
  t.match(of('x@void.test'), { kind: 'discard' });
  t.match(of('x@hop.test'), { hosts: [{ host: '192.0.2.1' }] });
  t.match(
    of('x@as-usual.test'),
    { implicitTls: true, hosts: [{ host: 'smart.host', port: 465 }] },
    'not listed: the default',
  );
  t.match(createRouteTable([]).lookUp(address('x@y.test')), undefined);
});

t.test('MTA-STS: raises the policy, is remembered, never weakens what an operator demands', async t => {
  const dnsServer = await startDnsServer({ 'mx.sts.test': { A: ['127.0.0.1'] }, 'evil.test': { A: ['127.0.0.1'] } });
  const dns = createDns({ clock: systemClock, servers: [dnsServer.address] });
  const state = await openSqliteState(path.join(t.testdir(), 'state.db'));
  t.teardown(async () => {
    dns.close();
    await dnsServer.close();
    await state.close();
  });
  await state.migrate('relay', stsMigrations);
  let fetched = 0;
  const expires = new Date(Date.now() + 86_400_000).toISOString();
  const policy = { id: 'x1', version: 'STSv1', mode: 'enforce' as const, mx: ['*.sts.test'], maxAge: 86_400, expires };
  const fetchPolicy = async (_domain: string, known: unknown) => {
    fetched += 1;
    return known
      ? { policy: known as typeof policy, status: 'errored' as const }
      : { policy, status: 'found' as const };
  };
  const make = () => createMtaSts({ dns, clock: systemClock, state, fetchPolicy: fetchPolicy as never });
  const mtaSts = make();
  t.match(await mtaSts.policy('sts.test'), { mode: 'enforce', mx: ['*.sts.test'] });
  await mtaSts.policy('sts.test');
  t.equal(fetched, 1, 'kept for a while');
  t.match(await make().policy('sts.test'), { mode: 'enforce' }, 'and over a restart');
  const full = { ...state, query: async () => [], write: () => Promise.reject(new Error('disk full')) };
  const forgetful = createMtaSts({ dns, clock: systemClock, state: full, fetchPolicy: fetchPolicy as never });
  t.match(await forgetful.policy('sts.test'), { mode: 'enforce' }, 'also where it cannot be remembered');
  t.match(
    await createMtaSts({ dns, clock: systemClock }).policy('none.test'),
    { mode: 'none' },
    'the real look-up: nothing there',
  );
  t.ok(stsAllows({ mode: 'enforce', mx: ['*.sts.test'] }, 'mx.sts.test'));
  t.notOk(stsAllows({ mode: 'enforce', mx: ['*.sts.test'] }, 'a.b.sts.test'));
  t.ok(stsAllows({ mode: 'testing', mx: [] }, 'any.test'));

  const parts = { dns, mtaSts, families: [4] as const, isOwnName: () => false, random: Math.random };
  const plan = (host: string, more = {}) =>
    planAddresses(parts, target([], more), { host, port: 25, secure: false }, 'sts.test', never().signal);
  t.match(await plan('mx.sts.test'), { candidates: [{ policy: { kind: 'verified' } }] });
  t.match(await plan('evil.test'), { kind: 'unusable', permanent: false });
  t.match(await plan('mx.sts.test', { tls: { kind: 'required' } }), { candidates: [{ policy: { kind: 'required' } }] });
});
