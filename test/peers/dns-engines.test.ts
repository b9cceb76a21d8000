// The resolver and the `dnsbl` plugin against the servers that the field runs: unbound as resolver, rbldnsd as list.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns, type Resolver } from '../../core/net/dns.ts';
import { dnsbl } from '../../plugins/dnsbl/index.ts';
import { findEngine, requireEngines } from '../harness/engine.ts';
import { freePort } from '../harness/gateway-process.ts';
import { plugin } from '../harness/plugin.ts';
import { testHost } from '../harness/plugin-host.ts';

interface Teardown {
  teardown(run: () => unknown): void;
}

async function folderWith(t: Teardown, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-dns-engine-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  // The engine may run as a user of its own.
  await chmod(folder, 0o755);
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  return folder;
}

/** Starts an engine in the foreground and asks it until it answers; it is ended with the test. */
async function run(
  t: Teardown,
  engine: 'unbound' | 'rbldnsd',
  args: readonly string[],
  port: number,
  probe: string,
): Promise<Resolver> {
  const child: ChildProcess = spawn(findEngine(engine) ?? engine, args, { stdio: 'ignore' });
  const exited = once(child, 'exit');
  const asking = { clock: systemClock, servers: [`127.0.0.1:${port}`] };
  const dns = createDns({ ...asking, attemptMs: 10_000, totalMs: 30_000 });
  t.teardown(async () => {
    dns.close();
    child.kill('SIGKILL');
    await exited;
  });
  const hurried = createDns({ ...asking, attemptMs: 200, totalMs: 1_000 });
  const until = performance.now() + 120_000;
  while ((await hurried.a(probe)).kind === 'tempfail')
    if (performance.now() > until || child.exitCode !== null) throw new Error(`${engine} does not answer`);
  hurried.close();
  return dns;
}

t.test('rbldnsd: addresses, networks, IPv6, domains, texts, and its own self-test entries', async t => {
  if (!requireEngines(t, 'dnsbl against rbldnsd', 'rbldnsd')) return;
  const folder = await folderWith(t, {
    ip4: ':127.0.0.2:Listed, see https://bl.test/$\n127.0.0.2\n192.0.2.1\n192.0.2.16/28 :127.0.0.10:dynamic\n',
    ip6: ':127.0.0.2:IPv6 listed\n2001:db8::/64\n::ffff:7f00:2\n',
    domains: ':127.0.1.2:bad domain\ntest\nevil.example\n.wild.example\n',
  });
  const port = await freePort();
  const user = process.getuid?.() === 0 ? ['-u', 'rbldns'] : [];
  const zones = ['bl.test:ip4set:ip4', 'bl6.test:ip6trie:ip6', 'dom.test:dnset:domains'];
  const dns = await run(
    t,
    'rbldnsd',
    ['-n', '-q', ...user, '-w', folder, '-b', `127.0.0.1/${port}`, ...zones],
    port,
    '2.0.0.127.bl.test',
  );
  const host = await testHost({ dns });
  t.teardown(() => host.close());
  for (const engine of ['own', 'dnsbl'] as const) {
    const lists = [
      { zone: 'bl.test', codes: { '127.0.0.2': 1 } },
      { zone: 'bl6.test', selfTest: false },
      { zone: 'dom.test', kind: 'domain', weight: 1 },
    ];
    const p = await plugin(dnsbl, { lists, engine, listTimeout: '30s' }, { host });
    t.teardown(() => p.close());
    const verdict = async (remote: string, sender = 'a@good.example') => {
      await p.connect({ remote });
      await p.mail(sender);
      return p.rcpt('bob@example.org');
    };
    t.match(
      await verdict('192.0.2.1'),
      { kind: 'reject', reply: { text: '192.0.2.1 is listed by bl.test: Listed, see https://bl.test/192.0.2.1' } },
      engine,
    );
    t.match(await verdict('192.0.2.17'), { kind: 'continue' }, 'a code that does not count');
    t.match(await verdict('192.0.2.99'), { kind: 'continue' });
    t.match(await verdict('2001:db8::17'), { kind: 'reject', reply: { text: /bl6\.test: IPv6 listed/ } });
    t.match(await verdict('2001:db8:1::17'), { kind: 'continue' });
    t.match(await verdict('192.0.2.99', 'a@evil.example'), {
      kind: 'reject',
      reply: { text: /dom\.test: bad domain/ },
    });
    t.match(await verdict('192.0.2.99', 'a@sub.wild.example'), { kind: 'reject' });
    for (let status = ''; !/"bl.test":"works"/.test(status); status = JSON.stringify(await p.status()))
      await new Promise(setImmediate);
    // RFC 5782 §5 wants INVALID unlisted and TEST listed.
    t.match(await p.status(), { 'bl6.test': 'not tested' });
  }
});

t.test('unbound: records, long answers over TCP, both kinds of "no", refusal', async t => {
  if (!requireEngines(t, 'resolver against unbound', 'unbound')) return;
  const port = await freePort();
  const long = Array.from({ length: 60 }, (_, i) => `  local-data: 'long.test. 300 IN TXT "${i} ${'x'.repeat(200)}"'`);
  const folder = await folderWith(t, {
    'unbound.conf': `server:
  interface: 127.0.0.1
  port: ${port}
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  logfile: "/dev/null"
  access-control: 127.0.0.0/8 allow
  local-zone: "test." static
  local-zone: "refused.test." refuse
  local-data: "test. 60 IN SOA ns.test. root.test. 1 3600 600 86400 60"
  local-data: "host.test. 120 IN A 192.0.2.1"
  local-data: "host.test. 120 IN AAAA 2001:db8::1"
  local-data: "host.test. 120 IN MX 10 mx.test."
  local-data: "alias.test. 30 IN CNAME host.test."
  local-data: '_25._tcp.mx.test. 60 IN TLSA 3 1 1 abcdef'
  local-data-ptr: "192.0.2.1 host.test"
${long.join('\n')}
`,
  });
  const dns = await run(t, 'unbound', ['-d', '-c', path.join(folder, 'unbound.conf')], port, 'host.test');
  t.match(await dns.a('host.test'), { kind: 'found', records: ['192.0.2.1'], ttl: Number });
  t.match(await dns.aaaa('HOST.test'), { records: ['2001:db8::1'] });
  t.match(await dns.mx('host.test'), { records: [{ exchange: 'mx.test', preference: 10 }] });
  t.match(await dns.query('alias.test', 'CNAME'), { records: ['host.test'] });
  t.match(await dns.ptr('192.0.2.1'), { records: ['host.test'] });
  t.match(await dns.query('_25._tcp.mx.test', 'TLSA'), {
    records: [{ usage: 3, certificate: Buffer.from('abcdef', 'hex') }],
  });
  const answer = await dns.txt('long.test');
  t.equal(answer.kind === 'found' && answer.records.length, 60);
  t.match(await dns.a('nobody.test'), { kind: 'none', ttl: 60 });
  t.match(await dns.txt('host.test'), { kind: 'none', ttl: 60 });
  t.match(await dns.a('x.refused.test'), { kind: 'tempfail', why: /REFUSED/ });
});
