// Opening a connection: AUTH by a real server of the same maker as the client, TLS that fails, sockets of LMTP.
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import path from 'node:path';
import { SMTPServer } from 'smtp-server';
import t, { type Test } from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { ensureSelfSigned } from '../../../core/net/tls.ts';
import { jobOf, never, rcpt, relay, startPeer, target } from './peers.ts';

const one = [rcpt('one@a.test')];

async function authServer(t: Test, tls: boolean, host = '127.0.0.1') {
  const files = await ensureSelfSigned(t.testdir(), ['peer.test'], systemClock);
  const seen: string[] = [];
  const server = new SMTPServer({
    ...(tls
      ? { key: readFileSync(files.key), cert: readFileSync(files.cert) }
      : { disabledCommands: ['STARTTLS'], allowInsecureAuth: true }),
    disableReverseLookup: true,
    onAuth(auth, session, done) {
      seen.push(`${auth.username}:${auth.password} ${session.secure ? 'secure' : 'clear'}`);
      if (auth.password === 'right') done(null, { user: 'x' });
      else done(new Error('Wrong'));
    },
    onData(stream, _session, done) {
      stream.resume().on('end', () => done());
    },
  });
  server.on('error', () => undefined);
  const listening = server.listen(0, host);
  await once(listening, 'listening');
  t.teardown(() => new Promise<void>(resolve => server.close(() => resolve())));
  return { port: (listening.address() as AddressInfo).port, seen };
}

t.test('AUTH: inside TLS, refused credentials are trouble of the destination', async t => {
  const { port, seen } = await authServer(t, true);
  const send = async (password: string) => {
    const to = target([port], { tls: { kind: 'required' }, credentials: { username: 'me', password } });
    return (await relay(t).transport(to, 'a.test').deliver(jobOf('q'), one, never()))[0];
  };
  t.match(await send('right'), { kind: 'delivered' });
  t.match(await send('wrong'), { kind: 'deferred', destination: true });
  t.same(seen, ['me:right secure', 'me:wrong secure']);
});

t.test('credentials never cross an open connection to another machine (I8)', async t => {
  const outside = Object.values(networkInterfaces())
    .flatMap(each => each ?? [])
    .find(each => each.family === 'IPv4' && !each.internal)?.address;
  if (outside === undefined) return void t.comment('This machine has no address but loopback');
  const { port, seen } = await authServer(t, false, outside);
  const to = target([], {
    hosts: [{ host: outside, port, mx: false }],
    credentials: { username: 'me', password: 'right' },
  });
  const [outcome] = await relay(t).transport(to, 'a.test').deliver(jobOf('q'), one, never());
  t.match(outcome, { kind: 'deferred', why: /encrypted/ });
  t.same(seen, []);
});

t.test('TLS that fails: in clear where that is allowed, not at all otherwise', async t => {
  const on = (verb: string) => (verb === 'STARTTLS' ? '220 go ahead' : undefined);
  const broken = await startPeer(t, { extensions: ['PIPELINING', 'STARTTLS'], on });
  const refusing = await startPeer(t, {
    extensions: ['PIPELINING', 'STARTTLS'],
    on: verb => (verb === 'STARTTLS' ? '454 4.7.0 not now' : undefined),
  });
  for (const { port } of [broken, refusing]) {
    const timeouts = { connectMs: 2_000, greetingMs: 2_000 };
    const send = (tls: 'opportunistic' | 'required') =>
      relay(t, { timeouts })
        .transport(target([port], { tls: { kind: tls } }), 'a.test')
        .deliver(jobOf('q'), one, never());
    t.match(await send('opportunistic'), [{ kind: 'delivered' }]);
    t.match(await send('required'), [{ kind: 'deferred', destination: true }]);
  }
});

t.test('LMTP over a socket of the file system', async t => {
  const peer = await startPeer(t, { extensions: ['PIPELINING', 'STARTTLS'] });
  // Not in a folder of the checkout: unix(7) has no room for a path of any length.
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-lmtp-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socket = path.join(folder, 'lmtp');
  const bridge = net.createServer(inner => {
    const outer = net.connect(peer.port, '127.0.0.1');
    for (const each of [inner, outer]) each.on('error', () => undefined);
    inner.pipe(outer).pipe(inner);
  });
  bridge.listen(socket);
  await once(bridge, 'listening');
  t.teardown(() => new Promise<void>(resolve => bridge.close(() => resolve())));
  const to = target([], { protocol: 'lmtp', hosts: [{ host: socket, port: 0, mx: false }] });
  const outbound = relay(t);
  t.match(await outbound.transport(to, 'a.test').deliver(jobOf('q'), one, never()), [{ kind: 'delivered' }]);
  await outbound.close();
});
