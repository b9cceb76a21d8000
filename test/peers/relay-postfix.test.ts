// A real Postfix as next hop, and settle, queue and relay together in front of it.
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';
import { ensureSelfSigned } from '../../core/net/tls.ts';
import { defaultBackoff } from '../../core/queue/backoff.ts';
import { createDestinationHealth } from '../../core/queue/destination-health.ts';
import { createScheduler } from '../../core/queue/scheduler.ts';
import { createSettler } from '../../core/queue/settle.ts';
import type { RouteLookup } from '../../core/queue/transport.ts';
import { destinationOf, type RelayTarget } from '../../core/relay/route.ts';
import { policy, request, unusedQuarantine } from '../core/queue/fixtures.ts';
import { openStore } from '../core/queue/shared-store.ts';
import { jobOf, never, rcpt, relay, ropeOf, silent, startPeer, target } from '../core/relay/peers.ts';
import { startDnsServer } from '../harness/dns-server.ts';
import { requireEngines } from '../harness/engine.ts';
import { until } from '../harness/gateway-files.ts';
import { makePostfix } from '../harness/postfix.ts';

const quick = { ...policy, ...defaultBackoff, firstRetryMs: 50, firstProbeMs: 50, maxProbeMs: 200 };

/** Settle, queue and relay in front of `to`. */
async function gateway(t: Test, to: RelayTarget) {
  const { store } = await openStore(t);
  const outbound = relay(t, { connections: 10 });
  const routes: RouteLookup = async ({ address }) => ({
    kind: 'route',
    route: {
      transport: outbound.transport(to, address.domain),
      destination: destinationOf(to, address.domain),
      direct: true,
    },
  });
  const health = createDestinationHealth(quick);
  const parts = { store, routes, health, policy: quick, clock: systemClock, log: silent };
  const scheduler = createScheduler({
    ...parts,
    report: async () => undefined,
    pollMs: 500,
  });
  const settler = createSettler({
    ...parts,
    directBudgetMs: 10_000,
    instance: 'test',
    quarantine: unusedQuarantine,
    wake: destinations => scheduler.wake(destinations),
  });
  scheduler.start();
  t.teardown(() => scheduler.stop());
  const left = async () => Number((await store.state.query('SELECT COUNT(*) AS n FROM queue_message'))[0]?.['n']);
  const empty = () => until(async () => (await left()) === 0, 'an empty queue');
  return { settler, empty };
}

/** Marks of the messages in a Maildir, in any order. Postfix delivers after its 250, so this waits for the number. */
async function arrivals(maildir: string, count: number): Promise<readonly string[]> {
  for (const until = Date.now() + 240_000; ; ) {
    const names = ['new', 'cur'].flatMap(sub => {
      try {
        return readdirSync(path.join(maildir, sub)).map(name => path.join(maildir, sub, name));
      } catch {
        return [];
      }
    });
    if (names.length >= count || Date.now() > until)
      return names.map(name => /^X-Mark: (.*)$/m.exec(readFileSync(name, 'utf8'))?.[1] ?? '?');
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}
const marked = (mark: string) => ropeOf(`X-Mark: ${mark}\r\nFrom: a@example.org\r\nSubject: x\r\n\r\nhello\r\n`);

t.test('Postfix: envelope, refusals, TLS policies, BDAT and DATA, XCLIENT', async t => {
  if (!requireEngines(t, 'relay to Postfix', 'postfix')) return;
  const files = await ensureSelfSigned(t.testdir(), ['inner.test'], systemClock);
  const pem = readFileSync(files.cert);
  const postfix = await makePostfix(t, {
    domains: ['inner.test'],
    recipients: ['one@inner.test', 'two@inner.test'],
    settings: [
      'smtpd_tls_security_level = may',
      `smtpd_tls_cert_file = ${files.cert}`,
      `smtpd_tls_key_file = ${files.key}`,
      'message_size_limit = 100000',
    ],
  });
  await postfix.start();
  const client = { address: '192.0.2.9', name: 'client.example', helo: 'client.example', protocol: 'ESMTP' };
  const fingerprint = new X509Certificate(pem).fingerprint256;
  const policies: readonly [RelayTarget['tls'], string][] = [
    [{ kind: 'none' }, 'delivered'],
    [{ kind: 'opportunistic' }, 'delivered'],
    [{ kind: 'required' }, 'delivered'],
    [{ kind: 'pinned', fingerprints: [fingerprint] }, 'delivered'],
    [{ kind: 'pinned', fingerprints: ['00'.repeat(32)] }, 'deferred'],
    [{ kind: 'verified' }, 'deferred'],
  ];
  const expected: string[] = [];
  for (const [index, [tls, kind]] of policies.entries())
    for (const chunking of [true, false]) {
      const out = relay(t).transport(target([postfix.port], { tls, chunking, clientFacts: 'xclient' }), 'inner.test');
      const list = [rcpt('one@inner.test'), rcpt('nobody@inner.test'), rcpt('two@inner.test')];
      const mark = `${index}${chunking}`;
      const outcomes = await out.deliver(jobOf('q1', marked(mark), { client }), list, never());
      const wanted = kind === 'delivered' ? ['delivered', 'failed', 'delivered'] : ['deferred', 'deferred', 'deferred'];
      t.same(
        outcomes.map(each => each.kind),
        wanted,
        `${tls.kind} ${chunking}`,
      );
      if (kind === 'delivered') {
        expected.push(mark, mark);
        t.match(outcomes[1], { reply: { code: 550, enhanced: '5.1.1', text: 'Recipient address is unknown' } });
      }
    }
  const out = relay(t).transport(target([postfix.port]), 'inner.test');
  const big = await out.deliver(jobOf('q2', ropeOf('x'.repeat(200_000))), [rcpt('one@inner.test')], never());
  t.match(big, [{ kind: 'failed', reply: { code: 552, enhanced: '5.3.4' } }]);
  const found = await arrivals(postfix.maildir, expected.length);
  t.same([...found].sort(), expected.sort());
  const one = readFileSync(
    path.join(postfix.maildir, 'new', readdirSync(path.join(postfix.maildir, 'new'))[0] ?? ''),
    'utf8',
  );
  t.match(one, /client\.example \[192\.0\.2\.9\]/, 'the next hop saw the real client');
});

t.test('Postfix down for a whole run, then up: all arrive once', async t => {
  if (!requireEngines(t, 'queue to Postfix', 'postfix')) return;
  const postfix = await makePostfix(t, { domains: ['inner.test'] });
  const { settler, empty } = await gateway(t, target([postfix.port]));
  const count = 300;
  const marks = Array.from({ length: count }, (_, n) => `m${n}`);
  const replies = await Promise.all(
    marks.map(mark => settler.settle(request(mark, [`${mark}@inner.test`], { body: marked(mark) }))),
  );
  t.ok(replies.every(({ reply }) => reply.code === 250));
  await postfix.start();
  await empty();
  t.same([...(await arrivals(postfix.maildir, count))].sort(), [...marks].sort());
  const direct = await settler.settle(request('last', ['x@inner.test'], { body: marked('last') }));
  t.match(direct.recipients, [{ outcome: 'relayed' }], 'and the direct path is open again');
});

t.test('killed in the middle: nothing lost, twice only where the last reply was lost', async t => {
  let lost = 0;
  const flaky = await startPeer(t, {
    on: (verb, _line, peer) => {
      const turn = peer.commands.length % 7;
      if (verb === '.' && turn === 3) {
        lost += 1;
        return 'drop';
      }
      return verb === 'RCPT' && turn === 5 ? 'drop' : undefined;
    },
  });
  const { settler, empty } = await gateway(t, target([flaky.port]));
  const marks = Array.from({ length: 200 }, (_, n) => `m${n}`);
  const replies = await Promise.all(
    marks.map(mark =>
      settler.settle(
        request(mark, [`${mark}@inner.test`], { body: marked(mark), client: { address: '127.0.0.1', identity: 'x' } }),
      ),
    ),
  );
  t.ok(replies.every(({ reply }) => reply.code === 250));
  await empty();
  const seen = flaky.bodies.map(body => /X-Mark: (.*)/.exec(body)?.[1]);
  t.same([...new Set(seen)].sort(), [...marks].sort(), 'none lost');
  t.ok(seen.length - marks.length <= lost, `${seen.length - marks.length} copies, ${lost} replies lost`);
});

t.test('MX, null MX, loops, DANE and resolver faults, by real DNS', async t => {
  const files = await ensureSelfSigned(t.testdir(), ['mx.out.test'], systemClock);
  const certificate = new X509Certificate(readFileSync(files.cert));
  const dnsServer = await startDnsServer();
  const dns = createDns({ clock: systemClock, servers: [dnsServer.address], cacheEntries: 1 });
  t.teardown(async () => {
    dns.close();
    await dnsServer.close();
  });
  const good = await startPeer(t);
  const zone = {
    'null.test': { MX: [{ exchange: '.', preference: 0 }] },
    'self.test': {
      MX: [
        { exchange: 'gateway.test', preference: 10 },
        { exchange: 'far.test', preference: 20 },
      ],
    },
    'broken.test': { fault: 'servfail' as const },
    'nohost.test': { MX: [{ exchange: 'gone.test', preference: 10 }] },
    'implicit.test': { A: ['127.0.0.1'] },
    'alias.test': { CNAME: 'implicit.test' },
    'two.test': {
      MX: [
        { exchange: 'dead.test', preference: 5 },
        { exchange: 'mx.out.test', preference: 10 },
      ],
    },
    'dead.test': { A: ['127.0.0.3'] },
    'mx.out.test': { A: ['127.0.0.1'] },
  };
  dnsServer.setZone(zone);
  // MX hosts listen on port 25 in the world; here the lookup is asked for another port.
  const by = (host: string, port: number): RelayTarget =>
    target([], { hosts: [{ host, port, mx: true }], tls: { kind: 'opportunistic' } });
  const send = async (host: string, port = good.port) =>
    (
      await relay(t, { dns, families: [4] })
        .transport(by(host, port), host)
        .deliver(jobOf('q'), [rcpt(`x@${host}`)], never())
    )[0];
  t.match(await send('null.test'), { kind: 'failed', reply: { enhanced: '5.1.10' } });
  t.match(await send('self.test'), { kind: 'failed', reply: { enhanced: '5.4.6' } });
  t.match(await send('broken.test'), { kind: 'deferred', destination: true, reply: { enhanced: '4.4.3' } });
  t.match(await send('nohost.test'), { kind: 'failed', reply: { enhanced: '5.4.4' } });
  t.match(await send('nowhere.test'), { kind: 'failed', reply: { enhanced: '5.4.4' } });
  for (const host of ['implicit.test', 'alias.test', 'two.test', '[127.0.0.1]'])
    t.match(await send(host), { kind: 'delivered' }, host);
  t.match(await send('two.test', 9), { kind: 'deferred', destination: true });

  if (!requireEngines(t, 'DANE', 'postfix')) return;
  const postfix = await makePostfix(t, {
    domains: ['two.test'],
    settings: [
      'smtpd_tls_security_level = may',
      `smtpd_tls_cert_file = ${files.cert}`,
      `smtpd_tls_key_file = ${files.key}`,
    ],
  });
  await postfix.start();
  const tlsa = (data: Buffer) => [{ usage: 3, selector: 0, matchingType: 0, certificate: data }];
  const name = `_${postfix.port}._tcp.mx.out.test`;
  const only = {
    'two.test': { MX: [{ exchange: 'mx.out.test', preference: 10 }] },
    'mx.out.test': zone['mx.out.test'],
  };
  const wrong = Buffer.from(certificate.raw.map((byte, index) => (index === 100 ? byte ^ 1 : byte)));
  dnsServer.setSecure(true);
  dnsServer.setZone({ ...only, [name]: { TLSA: tlsa(certificate.raw) } });
  t.match(await send('two.test', postfix.port), { kind: 'delivered' }, 'TLSA matches');
  dnsServer.setZone({ ...only, [name]: { TLSA: tlsa(wrong) } });
  t.match(await send('two.test', postfix.port), { kind: 'deferred', destination: true }, 'TLSA does not match');
  dnsServer.setZone({ ...only, [name]: { fault: 'servfail' } });
  t.match(await send('two.test', postfix.port), { kind: 'deferred' }, 'TLSA cannot be had');
  dnsServer.setSecure(false);
  dnsServer.setZone({ ...only, [name]: { TLSA: tlsa(wrong) } });
  t.match(await send('two.test', postfix.port), { kind: 'delivered' }, 'not validated, so not believed');
});
