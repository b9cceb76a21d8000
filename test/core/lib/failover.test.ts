import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { connectEndpoint, formatEndpoint, parseEndpoint } from '../../../core/lib/endpoint.ts';
import { createFailover } from '../../../core/lib/failover.ts';
import { heldClock } from '../../harness/held-clock.ts';

t.test('where a service listens, in the ways it is written', async t => {
  const spelled: Readonly<Record<string, string | undefined>> = {
    '/run/x.sock': '/run/x.sock',
    'unix:/run/x.sock': '/run/x.sock',
    'local:/run/x.sock': '/run/x.sock',
    'scanner.example': 'scanner.example:3310',
    '127.0.0.1:783': '127.0.0.1:783',
    '[::1]:783': '[::1]:783',
    '[::1]': '[::1]:3310',
    'tls://scanner.example:784': 'tls://scanner.example:784',
    'inet:8891@localhost': 'localhost:8891',
    '': undefined,
    'no host': undefined,
    'host:0': undefined,
    'host:65536': undefined,
    'host:x': undefined,
    'run/x.sock': undefined,
    [`/${'x'.repeat(106)}`]: `/${'x'.repeat(106)}`,
    [`/${'ü'.repeat(54)}`]: undefined,
  };
  for (const [text, wanted] of Object.entries(spelled)) {
    const parsed = parseEndpoint(text, 3310);
    t.equal(parsed && formatEndpoint(parsed), wanted, text);
  }
  t.equal(parseEndpoint('localhost'), undefined, 'no port and no default');
});

t.test('a connection ends with its signal, also while it is being made', async t => {
  const server = net.createServer(socket => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const options = { clock: systemClock, connectMs: 60_000 };
  const controller = new AbortController();
  const endpoint = { kind: 'tcp', host: '127.0.0.1', port, tls: false } as const;
  const socket = await connectEndpoint(endpoint, { ...options, signal: controller.signal });
  const closed = once(socket, 'error');
  controller.abort(new Error('enough'));
  t.match(await closed, [{ message: 'enough' }]);
  t.ok(socket.destroyed);
  await t.rejects(connectEndpoint(endpoint, { ...options, signal: controller.signal }), { message: 'enough' });
  const { signal } = new AbortController();
  // Speaks no TLS, so the handshake never ends.
  await t.rejects(connectEndpoint({ ...endpoint, tls: true }, { ...options, connectMs: 100, signal }), {
    name: 'DeadlineError',
  });
  await t.rejects(connectEndpoint({ kind: 'unix', path: '/nonexistent/x' }, { ...options, signal }), /ENOENT/);
});

t.test('hosts in order; one that failed waits; all failed tells what each said', async t => {
  const clock = heldClock();
  const changes: string[] = [];
  const failover = createFailover(['a', 'b'], name => name, {
    clock,
    attemptMs: 100,
    retryMs: 1000,
    onChange: (name, why) => changes.push(`${name}: ${why ?? 'works'}`),
  });
  const { signal } = new AbortController();
  const asked: string[] = [];
  const broken = new Set<string>(['a']);
  const attempt = async (name: string): Promise<string> => {
    asked.push(name);
    if (broken.has(name)) throw new Error(`${name} is broken`);
    return name;
  };
  t.equal(await failover.run(signal, attempt), 'b');
  t.equal(await failover.run(signal, attempt), 'b');
  t.same(asked.splice(0), ['a', 'b', 'b'], 'a is left out');
  broken.delete('a');
  clock.move(1000);
  t.equal(await failover.run(signal, attempt), 'a');
  t.same(changes.splice(0), ['a: a is broken', 'a: works']);
  broken.add('a').add('b');
  await t.rejects(failover.run(signal, attempt), { message: 'No host answered: a: a is broken; b: b is broken' });
  t.same([...failover.health()], [['a', 'a is broken'], ['b', 'b is broken']]); // biome-ignore format: one line
  broken.clear();
  t.equal(await failover.run(signal, attempt), 'a', 'when all are left out, all are tried');
  const hanging = failover.run(signal, (_, attemptSignal) =>
    once(attemptSignal, 'abort').then(() => Promise.reject(attemptSignal.reason)),
  );
  clock.move(100);
  await new Promise(setImmediate);
  clock.move(100);
  await t.rejects(hanging, /Deadline of 100 ms.*Deadline of 100 ms/);
  clock.move(1000);
  const waiting = new Set<string>();
  const slow = (name: string): Promise<string> => (name === 'a' ? new Promise(() => waiting.add(name)) : attempt(name));
  const probing = failover.run(signal, slow);
  t.equal(await failover.run(signal, slow), 'b', 'while one tries a again, others do not wait for it');
  clock.move(100);
  t.equal(await probing, 'b');
  const gone = new AbortController();
  const running = failover.run(
    gone.signal,
    () => new Promise<string>((_, reject) => gone.signal.addEventListener('abort', () => reject(new Error('x')))),
  );
  gone.abort(new Error('client is gone'));
  await t.rejects(running, { message: 'client is gone' });
});
