// DANE (RFC 7672) with everything real: unbound validates signed zones, Postfix shows its certificate.
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';
import { ensureSelfSigned } from '../../core/net/tls.ts';
import type { RelayTarget } from '../../core/relay/route.ts';
import { jobOf, never, rcpt, relay, ropeOf, target } from '../core/relay/peers.ts';
import { requireEngines } from '../harness/engine.ts';
import { makePostfix } from '../harness/postfix.ts';
import { type SignedZone, startValidatingResolver } from '../harness/signed-zones.ts';

t.test('MX by a validating resolver: TLSA that fits, that does not, that is bogus, that is not signed', async t => {
  if (!requireEngines(t, 'DANE with unbound', 'postfix', 'unbound', 'ldns-signzone')) return;
  const files = await ensureSelfSigned(t.testdir(), ['mx.good.test'], systemClock);
  const domains = ['good.test', 'spki.test', 'wrong.test', 'bogus.test', 'plain.test', 'null.test', 'notls.test'];
  const postfix = await makePostfix(t, {
    domains,
    settings: [
      'smtpd_tls_security_level = may',
      `smtpd_tls_cert_file = ${files.cert}`,
      `smtpd_tls_key_file = ${files.key}`,
    ],
  });
  const clear = await makePostfix(t, { domains });
  await postfix.start();
  await clear.start();
  const certificate = new X509Certificate(readFileSync(files.cert));
  const spki = createHash('sha256')
    .update(certificate.publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex');
  const whole = createHash('sha256').update(certificate.raw).digest('hex');
  const zone = (name: string, kind: SignedZone['kind'], tlsa: string, port = postfix.port): SignedZone => ({
    name,
    kind,
    change: ['127.0.0.1\n', '127.0.0.9\n'],
    records: [
      `${name}. 300 IN MX 10 mx.${name}.`,
      `mx.${name}. 300 IN A 127.0.0.1`,
      `_${port}._tcp.mx.${name}. 300 IN TLSA ${tlsa}`,
    ],
  });
  const resolver = await startValidatingResolver(t, [
    zone('good.test', 'signed', `3 0 1 ${whole}`),
    zone('spki.test', 'signed', `3 1 1 ${spki}`),
    zone('wrong.test', 'signed', `3 1 1 ${'00'.repeat(32)}`),
    zone('bogus.test', 'bogus', `3 1 1 ${spki}`),
    zone('plain.test', 'plain', `3 1 1 ${'00'.repeat(32)}`),
    zone('notls.test', 'signed', `3 1 1 ${spki}`, clear.port),
    { name: 'null.test', kind: 'signed', records: ['null.test. 300 IN MX 0 .'] },
  ]);
  const dns = createDns({ clock: systemClock, servers: [resolver], attemptMs: 20_000, totalMs: 60_000 });
  t.teardown(() => dns.close());
  t.match(await dns.mx('good.test'), { kind: 'found', secure: true }, 'the resolver validates');
  t.match(await dns.mx('plain.test'), { kind: 'found', secure: false });
  t.match(await dns.a('mx.bogus.test'), { kind: 'tempfail' }, 'what was changed after signing');

  const out = relay(t, { dns, families: [4] });
  const send = async (domain: string, port = postfix.port, requireTls = false) => {
    const by: RelayTarget = target([], { hosts: [{ host: domain, port, mx: true }], tls: { kind: 'opportunistic' } });
    const job = jobOf('q', ropeOf('Subject: x\r\n\r\nhello\r\n'), { envelope: { smtputf8: false, requireTls } });
    return (await out.transport(by, domain).deliver(job, [rcpt(`bob@${domain}`)], never()))[0];
  };
  t.match(await send('good.test'), { kind: 'delivered' }, 'certificate matches');
  t.match(await send('spki.test'), { kind: 'delivered' }, 'public key matches');
  t.match(await send('wrong.test'), { kind: 'deferred', destination: true }, 'another key: not delivered');
  t.match(await send('bogus.test'), { kind: 'deferred' }, 'a zone that does not validate');
  t.match(await send('plain.test'), { kind: 'delivered' }, 'what is not signed is not believed');
  t.match(
    await send('notls.test', clear.port),
    { kind: 'deferred', destination: true },
    'TLSA, and a server without TLS',
  );
  t.match(await send('null.test'), { kind: 'failed', reply: { enhanced: '5.1.10' } });
  // RFC 8689 §4.2.1: Postfix authenticates by DANE here, and does not offer REQUIRETLS.
  t.match(await send('good.test', postfix.port, true), { kind: 'failed', reply: { enhanced: '5.7.30' } });
});
