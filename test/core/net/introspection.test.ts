import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import path from 'node:path';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { introspect, introspectionUrlFault } from '../../../core/net/introspection.ts';
import { ensureSelfSigned } from '../../../core/net/tls.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { startTokenIssuer } from '../../harness/token-issuer.ts';

const client = { clientId: 'post:ern', clientSecret: () => 'se cret&', timeoutMs: 60_000 };

t.test('asks as RFC 7662 and RFC 6749 say, and takes a JSON object for an answer', async t => {
  const issuer = await startTokenIssuer();
  t.teardown(() => issuer.close());
  issuer.tokens.set('a+b/c=', { username: 'ann' });
  const ask = (token: string) => introspect(token, { ...client, url: issuer.url, clock: systemClock });
  t.same(await ask('a+b/c='), { kind: 'answer', claims: { active: true, username: 'ann' } });
  t.same(await ask('other'), { kind: 'answer', claims: { active: false } });
  t.equal(issuer.asked[0]?.authorization, `Basic ${Buffer.from('post%3Aern:se+cret%26').toString('base64')}`);
  t.equal(issuer.asked[0]?.form.get('token_type_hint'), 'access_token');
  for (const [behave, why] of [
    [401, /status 401/],
    [500, /status 500/],
    [302, /status 302/],
  ] as const) {
    issuer.behave = response => void response.writeHead(behave, { Location: issuer.url }).end('{"active":true}');
    t.match(await ask('x'), { kind: 'unavailable', why });
  }
  for (const [body, why] of [
    ['', /no JSON object/],
    ['[{"active":true}]', /no JSON object/],
    ['null', /no JSON object/],
    ['{"active":true', /no JSON object/],
    [`{"active":true,"x":"${'x'.repeat(70_000)}"}`, /too long/],
  ] as const) {
    issuer.behave = response => void response.end(body);
    t.match(await ask('x'), { kind: 'unavailable', why });
  }
  issuer.behave = response => void response.destroy();
  t.match(await ask('x'), { kind: 'unavailable' });
  const unreadable = (): string => {
    throw new Error('no such file');
  };
  t.match(await introspect('x', { ...client, clientSecret: unreadable, url: issuer.url, clock: systemClock }), {
    kind: 'unavailable',
    why: /no such file/,
  });
});

t.test('a kept connection that the issuer closes when the next question comes is no failure', async t => {
  const asked = new Map<Socket, number>();
  const issuer = createServer((request, response) => {
    const times = (asked.get(request.socket) ?? 0) + 1;
    asked.set(request.socket, times);
    if (times > 1) request.socket.destroy();
    else request.resume().on('end', () => response.end('{"active":true}'));
  }).listen(0, '127.0.0.1');
  await once(issuer, 'listening');
  t.teardown(() => {
    issuer.closeAllConnections();
    issuer.close();
  });
  const url = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/`;
  const ask = () => introspect('x', { ...client, url, clock: systemClock });
  for (let times = 0; times < 3; times++) t.match(await ask(), { kind: 'answer' });
  t.same([...asked.values()], [2, 2, 1], 'each was kept, and was closed when it was used again');
});

t.test('one that does not answer is waited for no longer than the limit', async t => {
  const issuer = await startTokenIssuer();
  t.teardown(() => issuer.close());
  const clock = heldClock();
  for (const headers of [false, true]) {
    const asked = new Promise<void>(resolve => {
      issuer.behave = response => {
        if (headers) response.write('{');
        resolve();
      };
    });
    const answer = introspect('x', { ...client, url: issuer.url, clock });
    await asked;
    clock.move(60_000);
    t.match(await answer, { kind: 'unavailable', why: /Deadline/ });
  }
});

t.test('over TLS to an issuer whose certificate the named authority vouches for', async t => {
  const files = await ensureSelfSigned(path.join(t.testdir(), 'tls'), ['localhost'], systemClock);
  const [key, cert] = [files.key, files.cert].map(file => readFileSync(file, 'utf8')) as [string, string];
  const issuer = await startTokenIssuer({ key, cert });
  t.teardown(() => issuer.close());
  const ask = (ca?: string) => introspect('x', { ...client, url: issuer.url, ca, clock: systemClock });
  t.match(await ask(cert), { kind: 'answer' });
  t.match(await ask(), { kind: 'unavailable', why: /self.signed/ });
  t.equal(issuer.asked.length, 1);
});

t.test('no secret leaves this machine in the clear', async t => {
  for (const url of ['https://issuer.example/x', 'http://127.0.0.1:8080/x', 'http://[::1]/x'])
    t.equal(introspectionUrlFault(url), undefined, url);
  for (const url of ['http://issuer.example/x', 'http://192.0.2.1/', 'http://localhost.example/', 'ftp://x/', 'x'])
    t.ok(introspectionUrlFault(url), url);
  t.match(introspectionUrlFault('https://me:secret@issuer.example/'), /clientSecret/);
  t.match(await introspect('x', { ...client, url: 'http://192.0.2.1/', clock: systemClock }), {
    kind: 'unavailable',
    why: /https/,
  });
});
