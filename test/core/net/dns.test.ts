import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { createDns, type DnsOptions, reverseName, systemServers } from '../../../core/net/dns.ts';
import { startDnsServer, type Zone } from '../../harness/dns-server.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';

const zone: Zone = {
  'host.test': { A: ['192.0.2.1', '192.0.2.2'], AAAA: ['2001:db8::1'], TXT: ['v=one ', ['two ', 'parts']], ttl: 77 },
  'www.test': { CNAME: 'alias.test' },
  'alias.test': { CNAME: 'host.test', ttl: 5 },
  'dead.test': { CNAME: 'nowhere.test' },
  'loop.test': { CNAME: 'loop2.test' },
  'mail.test': {
    MX: [{ exchange: 'MX1.test', preference: 10 }],
    SRV: [{ target: 'srv.test', port: 25, priority: 1, weight: 2 }],
  },
  'null.test': { MX: [{ exchange: '.', preference: 0 }] },
  '_25._tcp.mail.test': { TLSA: [{ usage: 3, selector: 1, matchingType: 1, certificate: Buffer.from('abcd', 'hex') }] },
  '1.2.0.192.in-addr.arpa': { PTR: ['host.test'] },
  'big.test': { TXT: Array.from({ length: 100 }, (_, i) => `line ${i} ${'x'.repeat(100)}`), fault: 'truncate' },
  'servfail.test': { fault: 'servfail' },
  'old.test': { A: ['192.0.2.9'], fault: 'formerr-on-edns' },
  'brief.test': { A: ['192.0.2.3'], ttl: 0 },
};

async function setUp(t: { teardown(run: () => Promise<void>): void }, options: Partial<DnsOptions> = {}) {
  const server = await startDnsServer(zone);
  const dns = createDns({
    clock: systemClock,
    servers: [server.address],
    attemptMs: 60_000,
    totalMs: 180_000,
    ...options,
  });
  t.teardown(async () => {
    dns.close();
    await server.close();
  });
  return { server, dns };
}

t.test('records of each type, CNAME chains, and the two ways of not being there', async t => {
  const { server, dns } = await setUp(t);
  t.same(await dns.a('Host.Test.'), { kind: 'found', records: ['192.0.2.1', '192.0.2.2'], ttl: 77, secure: false });
  t.match(await dns.aaaa('host.test'), { records: ['2001:db8::1'] });
  t.match(await dns.txt('host.test'), { records: ['v=one ', 'two parts'] });
  t.match(await dns.a('www.test'), { records: ['192.0.2.1', '192.0.2.2'], ttl: 5 });
  t.match(await dns.query('www.test', 'CNAME'), { records: ['alias.test'] });
  t.match(await dns.mx('mail.test'), { records: [{ exchange: 'mx1.test', preference: 10 }] });
  t.match(await dns.mx('null.test'), { records: [{ exchange: '', preference: 0 }] }, 'null MX, RFC 7505');
  t.match(await dns.query('mail.test', 'SRV'), { records: [{ target: 'srv.test', port: 25, priority: 1, weight: 2 }] });
  t.match(await dns.query('_25._tcp.mail.test', 'TLSA'), {
    records: [{ usage: 3, certificate: Buffer.from('abcd', 'hex') }],
  });
  t.match(await dns.ptr('192.0.2.1'), { records: ['host.test'] });
  t.match(await dns.ptr('::ffff:192.0.2.1'), { records: ['host.test'] });
  t.match(await dns.ptr('no address'), { kind: 'none' });
  t.equal(reverseName('2001:db8::1'), '1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa');
  t.same(await dns.a('nobody.test'), { kind: 'none', ttl: 60 }, 'NXDOMAIN with the TTL of the SOA');
  t.match(await dns.aaaa('mail.test'), { kind: 'none' }, 'no data');
  t.match(await dns.a('dead.test'), { kind: 'none' });
  t.match(await dns.a(`${'x'.repeat(64)}.test`), { kind: 'none' }, 'impossible name');
  t.match(await dns.a('a..test'), { kind: 'none' });
  server.setSecure(true);
  t.match(await dns.a('_25._tcp.mail.test'), { kind: 'none' });
  t.match(
    await dns.query('old.test', 'A'),
    { records: ['192.0.2.9'], secure: true },
    'without EDNS where the server refuses it',
  );
  const big = await dns.txt('big.test');
  t.equal(big.kind === 'found' && big.records.length, 100, 'over TCP where UDP was truncated');
});

t.test('cache by TTL, shared questions, bounded', async t => {
  let offset = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + offset };
  const { server, dns } = await setUp(t, { clock, cacheEntries: 2 });
  const both = await Promise.all([dns.a('host.test'), dns.a('HOST.test'), dns.a('host.test')]);
  t.same(both[0], both[2]);
  t.same(server.asked.splice(0), ['A host.test'], 'asked once');
  offset = 30_000;
  t.match(await dns.a('host.test'), { kind: 'found', ttl: Number });
  t.same(server.asked.splice(0), []);
  offset = 78_000;
  await dns.a('host.test');
  t.same(server.asked.splice(0), ['A host.test'], 'asked again after its TTL');
  await dns.a('nobody.test');
  await dns.a('nobody.test');
  t.same(server.asked.splice(0), ['A nobody.test'], 'negative answers are kept too');
  await dns.a('brief.test');
  await dns.a('brief.test');
  t.same(server.asked.splice(0), ['A brief.test', 'A brief.test'], 'TTL 0 is not kept');
  await dns.a('alias.test');
  await dns.a('host.test');
  t.same(server.asked.splice(0), ['A alias.test', 'A host.test'], 'the oldest entry went');
});

t.test('faults are tempfail and never "none"; another server helps', async t => {
  const clock = heldClock();
  const { server, dns } = await setUp(t, { clock });
  /** Time passes for the resolver whenever the server was asked and says nothing. */
  const unanswered = async (name: string) => {
    server.asked.splice(0);
    const answer = dns.a(name);
    for (const times of [1, 2]) {
      await until(() => server.asked.length === times, `question ${times}`);
      clock.move(60_000);
    }
    return answer;
  };
  t.match(await dns.a('servfail.test'), { kind: 'tempfail', why: /SERVFAIL/ });
  server.setFault('refused');
  t.match(await dns.a('x1.test'), { kind: 'tempfail', why: /REFUSED/ });
  server.setFault('garbage');
  t.match(await unanswered('x2.test'), { kind: 'tempfail', why: /timeout/ });
  server.setFault('timeout');
  t.match(await unanswered('x3.test'), { kind: 'tempfail', why: /timeout/ });
  t.equal(server.asked.length, 2, 'a silent server is asked twice');

  const closed = await startDnsServer();
  await closed.close();
  const { server: good, dns: two } = await setUp(t, { servers: [closed.address, server.address] });
  server.setFault();
  t.match(await two.a('host.test'), { kind: 'found' }, 'next server after one that is closed');
  t.same(good.asked, []);

  const gone = createDns({ clock: systemClock, servers: [closed.address], attemptMs: 100, totalMs: 300 });
  t.match(await gone.a('host.test'), { kind: 'tempfail' });
  t.throws(() => createDns({ clock: systemClock, servers: ['ns.example.org'] }), /Expected a resolver/);
});

t.test('a signal ends the wait at once, and the question when nobody else waits', async t => {
  const { server, dns } = await setUp(t, { inFlight: 1 });
  server.setFault('timeout');
  const one = new AbortController();
  const two = new AbortController();
  const answers = [dns.a('host.test', one.signal), dns.a('host.test', two.signal)];
  t.match(await dns.a('other.test'), { kind: 'tempfail', why: /in flight/ });
  one.abort();
  t.match(await answers[0], { kind: 'tempfail', why: 'Aborted' });
  two.abort();
  t.match(await answers[1], { kind: 'tempfail' });
  server.setFault();
  t.match(await dns.a('host.test'), { kind: 'found' }, 'asked anew');
  t.match(await dns.a('other.test', one.signal), { kind: 'tempfail' });
  server.setFault('timeout');
  const pending = dns.a('third.test');
  dns.close();
  t.match(await pending, { kind: 'tempfail' });
});

t.test('a server to which there is no way is no answer, and the next one is asked', async t => {
  const { server, dns } = await setUp(t);
  // The kernel refuses it at once, as it does without a route: no packet is sent.
  const broadcast = '255.255.255.255:53';
  const lost = createDns({ clock: systemClock, servers: [broadcast], attemptMs: 60_000, totalMs: 180_000 });
  t.match(await lost.a('host.test'), { kind: 'tempfail', why: /255\.255\.255\.255.*EACCES/ });
  const two = createDns({ clock: systemClock, servers: [broadcast, ...dns.servers] });
  t.match(await two.a('host.test'), { kind: 'found' });
  t.same(server.asked, ['A host.test']);
});

t.test('who goes away says nothing about the server that was asked', async t => {
  const { server, dns: first } = await setUp(t);
  const { server: other, dns: second } = await setUp(t);
  const dns = createDns({ clock: systemClock, servers: [...first.servers, ...second.servers], attemptMs: 60_000 });
  t.teardown(() => dns.close());
  server.setFault('timeout');
  const client = new AbortController();
  const given = dns.a('host.test', client.signal);
  await until(() => server.asked.length === 1, 'the question');
  client.abort();
  await given;
  server.setFault();
  t.match(await dns.a('mail.test'), { kind: 'none' });
  t.same([server.asked, other.asked], [['A host.test', 'A mail.test'], []], 'it is still the first to be asked');
});

t.test('servers of the system', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-dns-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'resolv.conf');
  await writeFile(file, '# x\nsearch example.org\nnameserver 192.0.2.53\n  nameserver fe80::1%eth0\noptions edns0\n');
  t.same(await systemServers(file), ['192.0.2.53', 'fe80::1%eth0']);
  t.same(await systemServers(path.join(folder, 'none')), ['127.0.0.1']);
  t.doesNotThrow(() =>
    createDns({ clock: systemClock, servers: ['fe80::1%eth0', '[2001:db8::1]:5353', '2001:db8::1'] }),
  );
});
