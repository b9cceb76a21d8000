import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { copyFile, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, isIP, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import t from 'tap';
import { addressBytes, cidrSet, networkKey, parseCidr, unmapAddress } from '../../../core/lib/cidr.ts';
import { type Clock, systemClock } from '../../../core/lib/clock.ts';
import { connectionLimits } from '../../../core/net/connection-limits.ts';
import { connectLdap } from '../../../core/net/ldap.ts';
import { listen } from '../../../core/net/listener.ts';
import { parseProxyHeader, readProxyHeader } from '../../../core/net/proxy-protocol.ts';
import { selfSignedCertificate } from '../../../core/net/self-signed.ts';
import { ensureSelfSigned, openTls } from '../../../core/net/tls.ts';
import { fc } from '../../harness/fuzz.ts';

function heldClock(): Clock & { move(ms: number): void } {
  let at = 0;
  return {
    ...systemClock,
    now: () => at,
    monotonic: () => at,
    move: ms => {
      at += ms;
    },
  };
}

t.test('cidr: mapped addresses, zones, networks', async t => {
  t.equal(unmapAddress('::ffff:192.0.2.1'), '192.0.2.1');
  t.equal(unmapAddress('::FFFF:c000:0201'), '192.0.2.1');
  t.equal(unmapAddress('0:0:0:0:0:ffff:192.0.2.1'), '192.0.2.1');
  t.equal(unmapAddress('fe80::1%eth0'), 'fe80::1');
  t.equal(unmapAddress('1::ffff:192.0.2.1'), '1::ffff:192.0.2.1', 'not mapped');
  t.equal(unmapAddress('2001:DB8::1'), '2001:db8::1');
  const set = cidrSet(['192.0.2.0/24', '10.1.2.3', '2001:db8::/32', '::ffff:198.51.100.0/120', '[fd00::1]']);
  const yes = [
    '192.0.2.0',
    '192.0.2.255',
    '::ffff:192.0.2.9',
    '10.1.2.3',
    '2001:db8:ffff::1',
    '198.51.100.77',
    'fd00::1',
  ];
  for (const address of yes) t.equal(set.has(address), true, address);
  const no = [
    '192.0.3.0',
    '10.1.2.4',
    '2001:db9::',
    'fd00::2',
    '',
    'example.org',
    '192.0.2',
    '192.0.2.1.1',
    '3221225985',
  ];
  for (const address of no) t.equal(set.has(address), false, address);
  t.equal(cidrSet([]).has('192.0.2.1'), false);
  t.equal(cidrSet(['0.0.0.0/0']).has('2001:db8::1'), false, 'IPv4 default says nothing about IPv6');
  t.equal(cidrSet(['0.0.0.0/0']).has('203.0.113.9'), true);
  t.equal(cidrSet(['::/0']).has('2001:db8::1'), true);
  for (const bad of [
    '',
    '192.0.2.0/33',
    '192.0.2.0/x',
    '192.0.2/24',
    '2001:db8::/129',
    'host',
    '1.2.3.4/-1',
    '01.2.3.4',
  ])
    t.throws(() => parseCidr(bad), bad);
  t.equal(networkKey('192.0.2.77', 24, 64), '192.0.2.0/24');
  t.equal(networkKey('::ffff:192.0.2.77', 20, 64), '192.0.0.0/20');
  t.equal(networkKey('2001:db8::1', 24, 64), networkKey('2001:db8:0:0:ffff::1', 24, 64));
  t.not(networkKey('2001:db8::1', 24, 64), networkKey('2001:db8:0:1::1', 24, 64));
});

t.test('cidr: bytes of every spelling agree, membership agrees with arithmetic', async () => {
  fc.assert(
    fc.property(fc.ipV6(), text => {
      const bytes = addressBytes(text);
      if (!bytes) return false;
      if (bytes.length === 4) return true;
      const full = (Buffer.from(bytes).toString('hex').match(/.{4}/g) ?? []).join(':');
      return isIP(full) === 6 && Buffer.from(addressBytes(full) ?? []).equals(Buffer.from(bytes));
    }),
  );
  const word = fc.integer({ min: 0, max: 0xffffffff });
  const dotted = (value: number): string => [24, 16, 8, 0].map(shift => (value >>> shift) & 255).join('.');
  fc.assert(
    fc.property(word, word, fc.integer({ min: 0, max: 32 }), (network, address, prefix) => {
      const mask = prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
      const inside = (network & mask) >>> 0 === (address & mask) >>> 0;
      return cidrSet([`${dotted(network)}/${prefix}`]).has(dotted(address)) === inside;
    }),
  );
});

t.test('connection limits', async t => {
  const clock = heldClock();
  const limits = connectionLimits({ total: 4, perAddress: 2, perNetwork: 3 }, clock);
  const first = limits.admit('192.0.2.1');
  limits.admit('::ffff:192.0.2.1');
  t.match(limits.admit('192.0.2.1'), { kind: 'refused', why: 'address' });
  limits.admit('192.0.2.2');
  t.match(limits.admit('192.0.2.3'), { kind: 'refused', why: 'network' });
  limits.admit('2001:db8::1');
  t.match(limits.admit('203.0.113.1'), { kind: 'refused', why: 'total' });
  if (first.kind === 'ok') {
    first.release();
    first.release();
  }
  t.equal(limits.live, 3, 'a release counts once');
  t.match(limits.admit('192.0.2.1'), { kind: 'ok' });

  const rate = connectionLimits({ rate: { count: 3, perMs: 1000 }, exempt: cidrSet(['10.0.0.0/8']) }, clock);
  const knock = (address: string): string => rate.admit(address).kind;
  t.same(
    [1, 2, 3, 4].map(() => knock('192.0.2.1')),
    ['ok', 'ok', 'ok', 'refused'],
  );
  t.same(
    [1, 2, 3, 4].map(() => knock('10.1.1.1')),
    ['ok', 'ok', 'ok', 'ok'],
    'exempt',
  );
  t.same(
    ['2001:db8::1', '2001:db8::2', '2001:db8::3', '2001:db8::4'].map(knock),
    ['ok', 'ok', 'ok', 'refused'],
    'a /64 is one',
  );
  clock.move(1500);
  t.same(
    [1, 2, 3].map(() => knock('192.0.2.1')),
    ['ok', 'ok', 'refused'],
    'half of the last window still counts',
  );
  clock.move(5000);
  t.equal(knock('192.0.2.1'), 'ok');
});

t.test('PROXY header', async t => {
  const v1 = (line: string) => parseProxyHeader(Buffer.from(line, 'latin1'));
  t.match(v1('PROXY TCP4 192.0.2.1 198.51.100.1 56324 25\r\nEHLO x\r\n'), {
    kind: 'done',
    length: 44,
    header: {
      kind: 'proxied',
      source: { address: '192.0.2.1', port: 56324 },
      destination: { address: '198.51.100.1', port: 25 },
    },
  });
  t.match(v1('PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n'), { header: { source: { address: '2001:db8::1' } } });
  t.match(v1('PROXY UNKNOWN\r\n'), { kind: 'done', header: { kind: 'local' } });
  t.match(v1('PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n'), { header: { kind: 'local' } });
  t.match(v1('PRO'), { kind: 'more' });
  t.match(v1('PROXY TCP4 192.0.2.1'), { kind: 'more' });
  const wrong = [
    'EHLO there\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.1 056 25\r\n',
    'PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n',
    'PROXY TCP4 evil\tname 198.51.100.1 1 2\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n',
    'proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n',
    `PROXY TCP4 ${'1'.repeat(120)}`,
  ];
  for (const line of wrong) t.match(v1(line), { kind: 'invalid' }, JSON.stringify(line));

  const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
  const v2 = (command: number, family: number, body: readonly number[]) =>
    Buffer.concat([head, Buffer.from([command, family, body.length >> 8, body.length & 255, ...body])]);
  const four = v2(0x21, 0x11, [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 0, 25, 3, 0, 1, 0]);
  t.match(parseProxyHeader(four), {
    kind: 'done',
    length: 32,
    header: { source: { address: '192.0.2.1', port: 56324 }, destination: { port: 25 } },
  });
  const six = [...Array<number>(15).fill(0), 1];
  t.match(parseProxyHeader(v2(0x21, 0x21, [...six, ...six, 0, 1, 0, 2])), {
    header: { source: { address: '0:0:0:0:0:0:0:1' } },
  });
  t.match(parseProxyHeader(v2(0x20, 0, [])), { header: { kind: 'local' } });
  t.match(parseProxyHeader(v2(0x21, 0x31, Array<number>(216).fill(0))), { header: { kind: 'local' } }, 'Unix sockets');
  t.match(parseProxyHeader(v2(0x31, 0x11, [])), { kind: 'invalid' });
  t.match(parseProxyHeader(v2(0x22, 0x11, [])), { kind: 'invalid' });
  t.match(parseProxyHeader(v2(0x21, 0x11, [1, 2])), { kind: 'invalid' });
  t.match(parseProxyHeader(v2(0x21, 0x11, Array<number>(5000).fill(0)).subarray(0, 20)), { kind: 'invalid' });
  for (let cut = 0; cut < four.length; cut++) t.match(parseProxyHeader(four.subarray(0, cut)), { kind: 'more' });
});

t.test('PROXY header on a socket leaves what follows, in any pieces; TLS may follow', async t => {
  const { key, cert } = selfSignedCertificate({ names: ['proxied.example'], now: Date.now() });
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-net-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const files = { key: path.join(folder, 'k'), cert: path.join(folder, 'c') };
  await Promise.all([writeFile(files.key, key), writeFile(files.cert, cert)]);
  const tls = openTls({ certificates: [files], clock: systemClock });
  let mode: 'plain' | 'tls' = 'plain';
  const listener = await listen({
    target: { host: '127.0.0.1', port: 0 },
    onError: error => t.fail(error.message),
    async onSocket(socket) {
      try {
        const header = await readProxyHeader(socket, 60_000, systemClock);
        const stream: Socket = mode === 'plain' ? socket : await tls.accept(socket, 60_000);
        stream.on('error', () => undefined);
        stream.on('data', data => stream.end(`${header.kind} ${data}`));
      } catch (error) {
        socket.on('error', () => undefined);
        socket.destroy();
        t.match((error as Error).message, /PROXY/);
      }
    },
  });
  const ask = async (pieces: readonly string[]): Promise<string> => {
    const socket = connect(listener.port, '127.0.0.1');
    let answer = '';
    socket.on('data', data => {
      answer += data;
    });
    for (const piece of pieces) await new Promise(resolve => socket.write(piece, resolve));
    await once(socket, 'close');
    return answer;
  };
  t.equal(await ask(['PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello']), 'proxied hello');
  t.equal(await ask(['PRO', 'XY TCP4 192.0.2.1 192.0.2.2 1 2\r', '\nhello']), 'proxied hello');
  t.equal(await ask(['EHLO spammer\r\n']), '');
  mode = 'tls';
  const raw = connect(listener.port, '127.0.0.1');
  raw.write('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n');
  const secure = tlsConnect({ socket: raw, rejectUnauthorized: false, servername: 'proxied.example' });
  secure.write('hi');
  const [data] = (await once(secure, 'data')) as [Buffer];
  t.equal(String(data), 'proxied hi');
  secure.destroy();
  await listener.close(60_000, systemClock);
});

t.test('listener: grace, then the rest is destroyed; a stale Unix socket is replaced', async t => {
  const sockets: Socket[] = [];
  const options = {
    onError: (error: Error) => t.fail(error.message),
    onSocket: (socket: Socket) => void sockets.push(socket),
  };
  const listener = await listen({ ...options, target: { host: '127.0.0.1', port: 0 } });
  t.equal(listener.address, '127.0.0.1');
  await t.rejects(
    listen({ ...options, target: { host: '127.0.0.1', port: listener.port } }),
    /Cannot listen on 127.0.0.1 port/,
  );
  const client = connect(listener.port, '127.0.0.1');
  client.on('error', () => undefined);
  await once(client, 'connect');
  while (listener.sockets.size === 0) await new Promise(resolve => setImmediate(resolve));
  await Promise.all([once(client, 'close'), listener.close(10, systemClock)]);
  t.equal(listener.sockets.size, 0);

  const folder = await mkdtemp(path.join(tmpdir(), 'postern-net-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 's');
  const unix = await listen({ ...options, target: { path: file, mode: 0o600 } });
  t.equal((await stat(file)).mode & 0o777, 0o600);
  await t.rejects(listen({ ...options, target: { path: file } }), /Cannot listen/, 'one that answers is left alone');
  await unix.close(10, systemClock);
});

t.test('listener: one that may not have its permissions does not stay open', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-listen-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'socket');
  const given = { onSocket: (socket: Socket) => void socket.destroy(), onError: () => undefined };
  await t.rejects(listen({ ...given, target: { path: file, mode: -1 } }), { code: 'ERR_OUT_OF_RANGE' });
  const again = await listen({ ...given, target: { path: file, mode: 0o600 } });
  await again.close(0, systemClock);
});

t.test('LDAP: a server that keeps us waiting in the handshake is left when the signal aborts', async t => {
  const sockets: Socket[] = [];
  const server = createServer(socket => void sockets.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const url = `ldaps://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const controller = new AbortController();
  const connecting = connectLdap({ url, startTls: false, timeoutMs: 60_000, pageSize: 10 }, controller.signal);
  await once(server, 'connection');
  controller.abort(new Error('Closed'));
  await t.rejects(connecting, /Closed/);
  for (const socket of sockets) socket.resume();
  await Promise.all(sockets.map(socket => socket.closed || once(socket, 'close')));
});

t.test('self-signed certificate', async t => {
  const now = Date.parse('2026-11-21T00:00:00Z');
  const names = ['mail.example.org', 'localhost', '127.0.0.1', '::1'];
  const { key, cert } = selfSignedCertificate({ names, now });
  const x509 = new X509Certificate(cert);
  t.ok(x509.verify(x509.publicKey));
  t.equal(x509.ca, false);
  t.equal(x509.subject, 'CN=mail.example.org');
  t.equal(x509.checkHost('localhost'), 'localhost');
  t.equal(x509.checkIP('127.0.0.1'), '127.0.0.1');
  t.ok(x509.checkIP('::1'));
  t.equal(Date.parse(x509.validTo), now + 820 * 86_400_000);
  t.match(x509.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  t.match(key, /^-----BEGIN PRIVATE KEY/);
  t.match(
    new X509Certificate(selfSignedCertificate({ names: ['a'.repeat(63) + '.b'.repeat(60)], now }).cert).subjectAltName,
    /DNS:aaa/,
  );
  t.equal(
    Date.parse(new X509Certificate(selfSignedCertificate({ names, now, days: 20_000 }).cert).validTo),
    now + 20_000 * 86_400_000,
    'a date after 2049',
  );
  t.throws(() => selfSignedCertificate({ names: [], now }));
});

t.test('TLS: SNI, reload with the next handshake, first start', async t => {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-net-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const one = await ensureSelfSigned(path.join(folder, 'one'), ['one.example'], systemClock);
  const two = await ensureSelfSigned(path.join(folder, 'two'), ['two.example', '*.two.example'], systemClock);
  t.equal((await stat(one.key)).mode & 0o777, 0o600);
  const before = (await stat(one.cert)).mtimeMs;
  await ensureSelfSigned(path.join(folder, 'one'), ['one.example'], systemClock);
  t.equal((await stat(one.cert)).mtimeMs, before, 'kept at the second start');

  const clock = heldClock();
  const reloaded: string[] = [];
  const errors: Error[] = [];
  const tls = openTls({
    certificates: [one, two],
    clock,
    onReload: info => void reloaded.push(...info.names),
    onError: error => void errors.push(error),
  });
  t.match(tls.certificates(), [
    { selfSigned: true, names: ['one.example'] },
    { names: ['two.example', '*.two.example'] },
  ]);
  const listener = await listen({
    target: { host: '127.0.0.1', port: 0 },
    onError: error => t.fail(error.message),
    onSocket: socket =>
      void tls.accept(socket, 60_000).then(
        secure => secure.on('error', () => undefined).end('hello'),
        error => errors.push(error as Error),
      ),
  });
  t.teardown(() => listener.close(60_000, systemClock));
  const served = async (servername?: string): Promise<string> => {
    const socket = tlsConnect({
      port: listener.port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(servername && { servername }),
    });
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.resume();
    await once(socket, 'close');
    return String(subject.CN);
  };
  t.equal(await served(), 'one.example');
  t.equal(await served('TWO.example'), 'two.example');
  t.equal(await served('mx.two.example'), 'two.example');
  t.equal(await served('a.mx.two.example'), 'one.example', 'a wildcard is one label');
  t.equal(await served('unknown.example'), 'one.example');

  const three = await ensureSelfSigned(path.join(folder, 'three'), ['three.example'], systemClock);
  await copyFile(three.key, one.key);
  clock.move(2000);
  t.equal(await served(), 'one.example', 'half a pair: the old one serves');
  t.equal(errors.length, 1);
  await copyFile(three.cert, one.cert);
  t.equal(await served(), 'one.example', 'looked at most once a second');
  clock.move(2000);
  t.equal(await served(), 'three.example');
  t.same(reloaded, ['three.example']);
  errors.length = 0;

  const garbage = connect(listener.port, '127.0.0.1');
  garbage.on('error', () => undefined);
  garbage.end('EHLO no tls\r\n'.repeat(10));
  garbage.resume();
  await once(garbage, 'close');
  t.equal(errors.length, 1, 'a failed handshake is reported and the socket destroyed');
  t.throws(() => openTls({ certificates: [], clock }));
  t.throws(() => openTls({ certificates: [{ key: two.key, cert: three.cert }], clock }));
});
