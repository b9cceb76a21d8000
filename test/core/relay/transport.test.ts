import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { createDotStuffer } from '../../../core/relay/dot-stuffer.ts';
import { ConnectionPool } from '../../../core/relay/pool.ts';
import { createReplyReader, ProtocolError } from '../../../core/relay/reply-reader.ts';
import type { SmtpSession } from '../../../core/relay/session.ts';
import { fc } from '../../harness/fuzz.ts';
import { until } from '../../harness/gateway-files.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { jobOf, type Move, message, never, type PeerScript, rcpt, relay, ropeOf, startPeer, target } from './peers.ts';

const one = [rcpt('one@a.test')];
/** No wait for a server is longer: RFC 5321 §4.5.3.2. */
const longest = 600_000;
t.test('replies are read in any pieces, within bounds', async t => {
  const reader = createReplyReader();
  const text = '250-peer\r\n250-SIZE 10\n250 HELP\r\n550-5.1.1 no\r\n550 5.1.1 such user\r\n354\r\n';
  const whole = reader.push(Buffer.from(text));
  t.match(whole, [
    { code: 250, lines: ['peer', 'SIZE 10', 'HELP'] },
    { code: 550, enhanced: '5.1.1', lines: ['no', 'such user'] },
    { code: 354 },
  ]);
  const bytewise = createReplyReader();
  t.same(
    [...text].flatMap(each => bytewise.push(Buffer.from(each))),
    whole,
  );
  t.throws(() => createReplyReader().push(Buffer.from('hello\r\n')), ProtocolError);
  t.throws(() => createReplyReader().push(Buffer.alloc(5000, 'x')), ProtocolError);
  const endless = createReplyReader();
  t.throws(() => {
    for (let n = 0; n < 10_000; n += 1) endless.push(Buffer.from(`250-${'x'.repeat(100)}\r\n`));
  }, ProtocolError);
});

/** What a receiver of DATA makes of the bytes: RFC 5321 §4.5.2. */
function unstuff(wire: string): { readonly body: string; readonly rest: string } {
  let body = '';
  let at = 0;
  for (;;) {
    const end = wire.indexOf('\r\n', at);
    if (end < 0) throw new Error('No end of data');
    const line = wire.slice(at, end);
    at = end + 2;
    if (line === '.') return { body, rest: wire.slice(at) };
    body += `${line.startsWith('.') ? line.slice(1) : line}\r\n`;
  }
}

t.test('dot-stuffing: bytes arrive as they were, bare CR and LF cannot smuggle', async () => {
  const pieces = fc.array(fc.constantFrom('.', '..', '\r\n', '\r', '\n', 'a', 'text', '\r\n.\r\n', '\n.\n', '\r.\r'), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(pieces, parts => {
      const stuffer = createDotStuffer();
      const wire = Buffer.concat([...parts.flatMap(each => stuffer.push(Buffer.from(each))), stuffer.end()]).toString();
      const { body, rest } = unstuff(wire);
      let expected = parts.join('').replaceAll(/\r\n|\r|\n/g, '\r\n');
      if (!expected.endsWith('\r\n') && expected !== '') expected += '\r\n';
      const strict = wire.replaceAll('\r\n', '');
      return rest === '' && body === expected && !strict.includes('\r') && !strict.includes('\n');
    }),
    { numRuns: 2000 },
  );
});

t.test('each way to send: pipelined, one by one, with BDAT, LMTP', async t => {
  const ways: readonly [string, PeerScript, object, RegExp][] = [
    ['pipelined', {}, {}, /DATA/],
    ['one by one', { extensions: [] }, {}, /DATA/],
    ['chunking', { extensions: ['PIPELINING', 'CHUNKING'] }, {}, /BDAT/],
    ['chunking one by one', { extensions: ['CHUNKING'] }, {}, /BDAT/],
    ['chunking not wanted', { extensions: ['PIPELINING', 'CHUNKING'] }, { chunking: false }, /DATA/],
  ];
  for (const [name, script, more, verb] of ways) {
    const refuse = (line: string): Move | undefined => (line.includes('no@') ? '550 5.1.1 not here' : undefined);
    const peer = await startPeer(t, { ...script, on: (verb, line) => (verb === 'RCPT' ? refuse(line) : undefined) });
    const out = relay(t).transport(target([peer.port], more), 'a.test');
    const list = [rcpt('one@a.test'), rcpt('no@a.test'), rcpt('two@a.test')];
    for (let round = 0; round < 3; round += 1) {
      const outcomes = await out.deliver(jobOf('q1'), list, never());
      t.same(
        outcomes.map(each => each.kind),
        ['delivered', 'failed', 'delivered'],
        name,
      );
      t.match(outcomes[1], { reply: { code: 550, enhanced: '5.1.1', text: 'Recipient address is unknown' } });
    }
    t.equal(peer.connections, 1, 'one connection for all');
    t.same(peer.bodies, [message, message, message], name);
    t.ok(peer.commands.some(line => verb.test(line)));
    const refused = await out.deliver(jobOf('q1'), [rcpt('no@a.test')], never());
    t.match(refused, [{ kind: 'failed' }]);
    t.match(await out.deliver(jobOf('q1'), one, never()), [{ kind: 'delivered' }], 'still in step');
  }
});

t.test('LMTP answers for each recipient', async t => {
  let answers = 0;
  const peer = await startPeer(t, {
    on: verb => {
      if (verb !== '.') return undefined;
      answers += 1;
      return '250 2.1.5 first\r\n452 4.2.2 second is full';
    },
  });
  const out = relay(t).transport(target([peer.port], { protocol: 'lmtp' }), 'a.test');
  const outcomes = await out.deliver(jobOf('q1'), [...one, rcpt('two@a.test')], never());
  t.match(outcomes, [{ kind: 'delivered' }, { kind: 'deferred', reply: { code: 452, text: 'Mailbox is full' } }]);
  t.equal(answers, 1);
  t.match(peer.commands[0], /^LHLO gateway\.test/);
});

t.test('trouble at every stage', async t => {
  const stage = (at: string, move: Move): PeerScript => ({ on: verb => (verb === at ? move : undefined) });
  const host = { destination: true } as const;
  const cases: readonly [string, PeerScript, object][] = [
    ['421 greeting', { greeting: '421 4.3.2 busy' }, host],
    ['554 greeting', { greeting: '554 no service' }, host],
    ['silent', { greeting: 'hang' }, host],
    ['hangs up', { greeting: 'drop' }, host],
    ['421 EHLO', stage('EHLO', '421 4.3.2 busy'), host],
    ['421 MAIL', stage('MAIL', '421 4.3.2 busy'), host],
    ['451 MAIL', stage('MAIL', '451 4.7.1 later'), { destination: undefined, reply: { code: 451, enhanced: '4.7.1' } }],
    ['421 RCPT', stage('RCPT', '421 4.3.2 busy'), host],
    ['450 RCPT', stage('RCPT', '450 4.2.0 greylisted'), { destination: undefined, reply: { code: 450 } }],
    ['421 DATA', stage('DATA', '421 4.3.2 busy'), host],
    ['hang MAIL', stage('MAIL', 'hang'), host],
    ['hang DATA', stage('DATA', 'hang'), host],
    ['drop MAIL', stage('MAIL', 'drop'), host],
    ['drop RCPT', stage('RCPT', 'drop'), host],
    ['451 at the end', stage('.', '451 4.3.0 later'), { destination: undefined }],
    ['hang at the end', stage('.', 'hang'), { destination: undefined, reply: { enhanced: '4.4.2' } }],
    ['drop at the end', stage('.', 'drop'), { destination: undefined, reply: { enhanced: '4.4.2' } }],
  ];
  const unsure = { destination: undefined, reply: { enhanced: '4.4.2' } };
  // With BDAT the body travels along with the commands; that must not look like a lost reply.
  const both = cases.flatMap(([name, script, expected]): (typeof cases)[number][] => [
    [name, script, expected],
    // Nobody knows what a server did with the body that was silent after it, or left after some replies.
    [
      `${name}, BDAT`,
      { ...script, extensions: ['PIPELINING', 'CHUNKING'] },
      /hang MAIL|drop RCPT/.test(name) ? unsure : expected,
    ],
  ]);
  for (const [name, script, expected] of both) {
    if (/(DATA), BDAT/.test(name)) continue;
    const peer = await startPeer(t, script);
    const clock = heldClock();
    const attempt = relay(t, { clock })
      .transport(target([peer.port]), 'a.test')
      .deliver(jobOf('q'), one, never());
    if (/hang |silent/.test(name)) {
      await until(() => peer.hung > 0, name);
      clock.move(longest);
    }
    const outcomes = await attempt;
    t.match(outcomes, [{ kind: 'deferred', ...expected }], name);
    t.ok(
      outcomes.every(each => each.kind !== 'deferred' || !/127\.0\.0\.1|peer\.test/.test(each.reply.text)),
      'no host named',
    );
  }
  const dropping = await startPeer(t, { dropInBody: true });
  const large = ropeOf(`a: b\r\n\r\n${'line of text\r\n'.repeat(300_000)}`);
  const cut = await relay(t)
    .transport(target([dropping.port]), 'a.test')
    .deliver(jobOf('q', large), one, never());
  t.match(cut, [{ kind: 'deferred', ...host }], 'lost in the middle of the body');
  t.same(dropping.bodies, []);
  const refusals: readonly [string, PeerScript][] = [
    ['5xx MAIL', stage('MAIL', '550 5.7.1 no')],
    ['5xx DATA', stage('DATA', '554 5.7.1 no')],
    ['5xx at the end', stage('.', '554 5.6.0 bad content at exch01.corp.local')],
  ];
  for (const [name, script] of refusals) {
    const peer = await startPeer(t, script);
    const out = relay(t).transport(target([peer.port]), 'a.test');
    const outcomes = await out.deliver(jobOf('q'), one, never());
    t.match(outcomes, [{ kind: 'failed', remote: undefined }], name);
    t.notMatch(JSON.stringify(outcomes[0]?.kind === 'failed' && outcomes[0].reply), /corp/);
  }
});

t.test('another host takes over: at once when one is dead, in time when it hangs', async t => {
  const hung = await startPeer(t, { greeting: 'hang' });
  const busy = await startPeer(t, { on: verb => (verb === 'MAIL' ? '452 4.3.1 no room' : undefined) });
  const good = await startPeer(t);
  const closed = await startPeer(t);
  const clock = heldClock();
  const outbound = relay(t, { clock });
  for (const first of [hung.port, 9, busy.port, closed.port]) {
    const attempt = outbound.transport(target([first, good.port]), 'a.test').deliver(jobOf('q'), one, never());
    if (first === hung.port) {
      await until(() => hung.hung > 0, 'the first host to be asked');
      clock.move(5_000);
    }
    t.match(await attempt, [{ kind: 'delivered' }]);
  }
  const before = hung.connections;
  await outbound.transport(target([hung.port, good.port]), 'a.test').deliver(jobOf('q'), one, never());
  t.equal(hung.connections, before, 'a host that failed a moment ago is tried last');
});

t.test('an idle connection that the server closed costs nothing', async t => {
  const peer = await startPeer(t, {
    on: (verb, _line, self) =>
      verb === 'MAIL' && self.bodies.length === 1 && self.connections === 1 ? 'drop' : undefined,
  });
  const out = relay(t).transport(target([peer.port]), 'a.test');
  t.match(await out.deliver(jobOf('q1'), one, never()), [{ kind: 'delivered' }]);
  t.match(await out.deliver(jobOf('q2'), one, never()), [{ kind: 'delivered' }]);
  t.equal(peer.connections, 2);
});

t.test('what the next hop cannot take is refused with its own status', async t => {
  const plain = await startPeer(t, { extensions: ['SIZE 1000'] });
  const out = relay(t).transport(target([plain.port]), 'a.test');
  const send = async (body: string | Buffer, envelope: object = {}, to = one) => {
    const job = jobOf('q', ropeOf(body));
    return (await out.deliver({ ...job, envelope: { ...job.envelope, ...envelope } }, to, never()))[0];
  };
  t.match(await send('x'.repeat(2000)), { kind: 'failed', reply: { code: 552, enhanced: '5.3.4' } });
  t.match(await send(message, { body: '8BITMIME' }), { kind: 'delivered' }, 'declared, but plain');
  t.match(await send(message, {}, [rcpt('j\u00fcrgen@a.test')]), { kind: 'failed', reply: { enhanced: '5.6.7' } });
  t.match(await send(message, { smtputf8: true }), { kind: 'delivered' }, 'nothing in it needs SMTPUTF8');
  t.match(await send('Subject: \u00fc\r\n\r\n', { smtputf8: true }), { kind: 'failed', reply: { enhanced: '5.6.7' } });
  t.match(await send(message, { requireTls: true }), { kind: 'failed', reply: { enhanced: '5.7.30' } });
  t.match(await send(message, {}, [rcpt('a\r\nRCPT TO:<b@a.test')]), { kind: 'failed' });
  const loop = `${'Received: by x\r\n'.repeat(60)}\r\n`;
  t.match(await send(loop.slice(0, 990)), { kind: 'failed', reply: { enhanced: '5.4.6' } });
});

t.test('8-bit content for a next hop without 8BITMIME: converted, or bounced', async t => {
  const eightBit = 'From: a@example.org\r\nMIME-Version: 1.0\r\n\r\ncaf\u00e9\r\n.dot\r\n';
  const encoded =
    'From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9\r\n.dot\r\n';
  const signed = `Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\u00e9\r\n--b--\r\n`;
  const refused = (why: RegExp) => ({ kind: 'failed', reply: { code: 554, enhanced: '5.6.3' }, why });
  for (const extensions of [['SIZE'], ['PIPELINING', 'SIZE'], ['PIPELINING', 'CHUNKING', 'SIZE'], ['CHUNKING']]) {
    const peer = await startPeer(t, { extensions });
    const send = async (text: string, envelope: object = {}, more: object = {}) => {
      const job = jobOf('q', ropeOf(text));
      const out = relay(t).transport(target([peer.port], more), 'a.test');
      return (await out.deliver({ ...job, envelope: { ...job.envelope, ...envelope } }, one, never()))[0];
    };
    const converted = { kind: 'delivered', detail: /converted to 7-bit/ };
    t.match(await send(eightBit), converted, 'nothing declared');
    for (const body of ['8BITMIME', '7BIT', 'BINARYMIME'])
      t.match(await send(eightBit, { body }), converted, `declared ${body}`);
    t.same(peer.bodies, [encoded, encoded, encoded, encoded], extensions.join());
    const size = extensions.includes('SIZE') ? ` SIZE=${encoded.length}` : '';
    t.same(
      peer.commands.filter(line => line.startsWith('MAIL')),
      Array.from({ length: 4 }, () => `MAIL FROM:<from@example.org>${size}`),
    );
    const before = peer.bodies.length;
    t.match(await send(eightBit, {}, { downgrade: 'bounce' }), refused(/8BITMIME.*its route says bounce/));
    t.match(await send(signed), refused(/signature covers/));
    t.match(await send('Subject: \u00e9\r\n\r\nx\r\n'), refused(/header holds 8-bit/));
    t.equal(peer.bodies.length, before, 'nothing was sent');
  }
  const peer = await startPeer(t, { extensions: ['8BITMIME', `SIZE ${encoded.length - 1}`] });
  const out = relay(t).transport(target([peer.port]), 'a.test');
  t.match(await out.deliver(jobOf('q', ropeOf(eightBit)), one, never()), [{ kind: 'delivered' }]);
  t.same(peer.bodies, [eightBit], 'as it is where it can go so');
  const narrow = await startPeer(t, { extensions: [`SIZE ${encoded.length - 1}`] });
  const small = relay(t).transport(target([narrow.port]), 'a.test');
  t.match(await small.deliver(jobOf('q', ropeOf(eightBit)), one, never()), [{ reply: { enhanced: '5.3.4' } }]);
});

t.test('DSN parameters, XFORWARD and XCLIENT go along', async t => {
  const client = { address: '192.0.2.7', name: 'client.example', helo: 'me there', port: 4711, protocol: 'ESMTP' };
  const extensions = [
    'PIPELINING',
    'DSN',
    'SMTPUTF8',
    '8BITMIME',
    'SIZE',
    'XFORWARD NAME ADDR PROTO HELO',
    'XCLIENT NAME ADDR',
  ];
  const peer = await startPeer(t, { extensions });
  const job = jobOf('q1', ropeOf(message), {
    client,
    envelope: { smtputf8: true, requireTls: false, ret: 'HDRS', envid: 'a+b' },
  });
  const to = [
    rcpt('one@a.test', { notify: ['success', 'failure'], orcpt: { type: 'rfc822', address: 'x=y@b.test' } }),
    rcpt('\u00fc@a.test', { notify: ['never'] }),
  ];
  const send = (more: object) =>
    relay(t)
      .transport(target([peer.port], more), 'a.test')
      .deliver(job, to, never());
  t.match(await send({ clientFacts: 'xforward' }), [{ kind: 'delivered', dsnPassed: true }, { kind: 'delivered' }]);
  t.same(peer.commands.slice(1, 6), [
    'XFORWARD NAME=client.example ADDR=192.0.2.7 PROTO=ESMTP HELO=me+20there',
    `MAIL FROM:<from@example.org> SIZE=${message.length} SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=a+2Bb`,
    'RCPT TO:<one@a.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+3Dy@b.test',
    'RCPT TO:<\u00fc@a.test> NOTIFY=NEVER',
    'DATA',
  ]);
  await send({ clientFacts: 'xclient' });
  t.match(peer.commands.slice(-6), [
    'XCLIENT NAME=client.example ADDR=192.0.2.7',
    /^EHLO/,
    /^MAIL/,
    /^RCPT/,
    /^RCPT/,
    'DATA',
  ]);
});

t.test('large bodies from files, to a server that refuses midway; never to ourselves', async t => {
  const folder = t.testdir();
  const file = path.join(folder, 'body');
  const lines = Array.from({ length: 20_000 }, () => `${randomBytes(36).toString('base64')}\r\n`).join('');
  await writeFile(file, `skip${lines}rest`);
  const body = { size: 6 + lines.length, pieces: [Buffer.from('a: b\r\n'), { file, start: 4, end: 4 + lines.length }] };
  for (const extensions of [['PIPELINING'], ['PIPELINING', 'CHUNKING']]) {
    const peer = await startPeer(t, { extensions });
    const out = relay(t).transport(target([peer.port]), 'a.test');
    t.match(await out.deliver(jobOf('q', body), one, never()), [{ kind: 'delivered' }]);
    t.ok(peer.bodies[0] === `a: b\r\n${lines}`, 'byte for byte');
  }
  const own = await startPeer(t);
  const outbound = relay(t, { isOwnAddress: (_address, port) => port === own.port });
  const outcomes = await outbound.transport(target([own.port]), 'a.test').deliver(jobOf('q'), one, never());
  t.match(outcomes, [{ kind: 'failed', reply: { enhanced: '5.4.6' } }]);
  t.equal(own.connections, 0);
  const gone = { size: 10, pieces: [{ file: path.join(folder, 'none'), start: 0, end: 10 }] };
  const peer = await startPeer(t, { extensions: ['8BITMIME'] });
  const job = relay(t)
    .transport(target([peer.port]), 'a.test')
    .deliver(jobOf('q', gone), one, never());
  await t.rejects(job, 'the caller takes a throw for a deferral');
});

t.test('many at once: connections stay within the limit, an abort ends a wait', async t => {
  const peer = await startPeer(t);
  const outbound = relay(t, { connections: 3 });
  const out = outbound.transport(target([peer.port]), 'a.test');
  const all = await Promise.all(Array.from({ length: 60 }, (_, n) => out.deliver(jobOf(`q${n}`), one, never())));
  t.ok(all.every(([first]) => first?.kind === 'delivered'));
  t.equal(peer.bodies.length, 60);
  t.ok(peer.connections <= 3);
  const hung = await startPeer(t, { greeting: 'hang' });
  const abort = new AbortController();
  const waiting = relay(t)
    .transport(target([hung.port]), 'a.test')
    .deliver(jobOf('q'), one, abort);
  abort.abort(new Error('too long'));
  t.match(await waiting, [{ kind: 'deferred' }]);
});

t.test('an idle connection that breaks as it is asked for does not count any more, and its successor does', async t => {
  const clock = heldClock();
  const pool = new ConnectionPool({ clock, limit: 1, idleMs: 1000, maxUses: 10 });
  const session = () => ({ broken: false, used: 0, onClose: () => undefined, quit: async () => undefined });
  const first = session();
  const { signal } = new AbortController();
  const take = (opened: ReturnType<typeof session>) =>
    pool.take('a', async () => opened as unknown as SmtpSession, signal);
  pool.give('a', (await take(first)).session);
  first.broken = true;
  const second = await take(session());
  t.notOk(second.reused);
  t.same(pool.status(), { open: 1, idle: 0 });
  const waiting = take(session());
  pool.give('a', second.session);
  t.equal((await waiting).session, second.session, 'the limit of one holds');
  pool.give('a', second.session);
  t.same(pool.status(), { open: 1, idle: 1 });
  await pool.close();
  t.same(pool.status(), { open: 0, idle: 0 });
});
