import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import t from 'tap';
import type { Message } from '../../core/mail/message.ts';
import { milter } from '../../plugins/milter/index.ts';
import { MilterLink } from '../../plugins/milter/link.ts';
import { changes, encodePacket, PacketReader, steps, strings, uint32 } from '../../plugins/milter/packets.ts';
import { parseReply } from '../../plugins/milter/reply.ts';
import { eicar, startClamavMilter, startClamd } from '../harness/clamd.ts';
import { corpusMessages } from '../harness/corpus.ts';
import { requireEngines } from '../harness/engine.ts';
import { startFaultServer } from '../harness/fault-server.ts';
import { fc } from '../harness/fuzz.ts';
import { startOpenDkims } from '../harness/opendkim.ts';
import { type Answered, type ClientFacts, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { startScriptedMilter } from '../harness/scripted-milter.ts';

const own =
  'Received: from mx.sender.example ([192.0.2.1]) by gateway.test with ESMTP id 1; Sat, 21 Nov 2026 08:00:00 +0000\n';
const text = `From: Ann <ann@sender.example>\nTo: bob@example.org\nSubject: lunch  with\n  folding\nX-Old: 1\nX-Old: 2\nDate: Sat, 21 Nov 2026 08:00:00 +0000\n\nShall we have lunch?\n\n`;

async function open(
  t: { teardown(run: () => unknown): void },
  given: object,
  {
    client = { remote: '192.0.2.1' },
    to = ['bob@example.org'],
    ...setup
  }: PluginSetup & { client?: ClientFacts; to?: string[] } = {},
): Promise<DrivenPlugin> {
  const p = await plugin(milter, given, setup);
  t.teardown(() => p.close());
  await p.connect(client);
  await p.helo('mx.sender.example');
  await p.mail('ann@sender.example');
  for (const each of to) await p.rcpt(each);
  return p;
}
const messageOf = ({ outcome }: Answered<{ readonly kind: string }>): Message =>
  (outcome as unknown as { message: Message }).message;

t.test('opendkim signs for internal clients and verifies what it signed; then frozen and stopped', async t => {
  if (!requireEngines(t, 'milter', 'opendkim')) return;
  const { unix, tcp } = await startOpenDkims(t, '10.1.2.3');
  const places = { [unix.socket]: unix, [`inet:${tcp.port}@127.0.0.1`]: tcp };
  for (const where of Object.keys(places)) {
    const signer = await open(t, { hosts: [where] }, { client: { remote: '10.1.2.3' } });
    const signed = await signer.message(`${own}${text}`);
    t.equal(signed.kind, 'continue');
    const signature = messageOf(signed).headers.get('DKIM-Signature');
    t.match(signature?.value, /d=sender\.example;\s+s=sel/);
    const verifier = await open(t, { hosts: [where] });
    const bytes = await messageOf(signed).bytes();
    const verified = await verifier.message(bytes);
    t.match(messageOf(verified).headers.get('Authentication-Results')?.value, /gateway\.test;\s+dkim=pass/);
    const changed = await verifier.message(
      Buffer.from(bytes.toString('latin1').replace('lunch?', 'dinner?'), 'latin1'),
    );
    t.match(messageOf(changed).headers.get('Authentication-Results')?.value, /dkim=fail/);
    for (const { name, bytes } of corpusMessages(10)) {
      const passed = await verifier.message(bytes);
      t.equal(passed.kind, 'continue', name);
      const before = bytes.subarray(bytes.indexOf('\r\n\r\n'));
      const after = await messageOf(passed).bytes();
      t.ok(after.subarray(after.length - before.length).equals(before), 'the body is as it was');
    }
    t.match(Object.values(await signer.status()), ['accepts connections']);
  }
  const hosts = Object.keys(places);
  // Long enough for the one that answers, on any machine.
  const p = await open(t, { hosts, hostTimeout: '5s' });
  unix.freeze();
  t.match(await p.message(text), { kind: 'continue', evidence: { milter: `127.0.0.1:${tcp.port}` } }, 'one is frozen');
  tcp.freeze();
  t.match(await (await open(t, { hosts, hostTimeout: '300ms' })).message(text), {
    kind: 'error',
    why: /Deadline/,
    outcome: { kind: 'refused', reply: { code: 451 } },
  });
  unix.thaw();
  tcp.thaw();
  await Promise.all([unix.kill(), tcp.kill()]);
  const stopped = await open(t, { hosts });
  t.match(await stopped.message(text), { kind: 'error', why: /ECONNREFUSED|ENOENT/ }, 'stopped');
});

t.test('clamav-milter: its refusals and quarantines are ours; with clamd gone it defers', async t => {
  if (!requireEngines(t, 'milter clamav-milter', 'clamav-milter', 'clamd')) return;
  const clamd = await startClamd(t);
  const rejecting = await startClamavMilter(t, clamd, 'Reject');
  const holding = await startClamavMilter(t, clamd, 'Quarantine');
  const infected = `${text}${eicar}\n`;
  const p = await open(t, { hosts: [rejecting.where] });
  t.match(await p.message(infected), { kind: 'reject', reply: { code: /^55/ } });
  const passed = await p.message(`X-Virus-Status: forged\n${text}`);
  t.equal(passed.kind, 'continue');
  t.same(
    messageOf(passed)
      .headers.all('X-Virus-Status')
      .map(({ value }) => value.trim()),
    ['Clean'],
  );
  const q = await open(t, { hosts: [holding.where] });
  t.match(await q.message(infected), { kind: 'quarantine', outcome: { kind: 'quarantine' } });
  await clamd.kill();
  t.match(await p.message(infected), { kind: 'defer', reply: { code: /^4/ } });
});

t.test('what a milter is told, stage by stage', async t => {
  const fake = await startScriptedMilter(t);
  const hosts = [`127.0.0.1:${fake.port}`];
  const p = await open(
    t,
    { hosts },
    {
      to: ['bob@example.org', 'carol@example.org'],
      client: { remote: '2001:db8::1', name: 'mx.sender.example', identity: 'ann' },
    },
  );
  fake.set({
    protocol: steps.leadingSpace | steps.silentHeaders,
    macroLists: Buffer.concat([uint32(5), strings('{client_addr} {nothing}')]),
  });
  t.match(await p.message(`${own}${text}`), { kind: 'continue' });
  const told = fake.told.map(line => line.replace(/\d{5}/g, 'PORT'));
  t.match(told[0], /^O/);
  t.match(told[1], /^DCj\|gateway\.test\|_\|mx\.sender\.example \[2001:db8::1\]\|v\|Postern\|/);
  t.match(told[2], /^Cmx\.sender\.example\|6..2001:db8::1\|$/s);
  t.equal(told[3], 'Hmx.sender.example|');
  t.match(told[4], /^DMi\|[^|]+\|\{auth_type\}\|PLAIN\|\{auth_authen\}\|ann\|\{mail_addr\}\|ann@sender\.example\|/);
  t.equal(told[5], 'M<ann@sender.example>|');
  t.match(told[6], /^DRi\|/);
  t.same([told[7], told[9]], ['R<bob@example.org>|', 'R<carol@example.org>|']);
  const rest = told.slice(10);
  t.same(
    rest.filter(line => line !== 'Q' && (!line.startsWith('D') || line.startsWith('DE'))),
    [
      'T',
      'LFrom| Ann <ann@sender.example>|',
      'LTo| bob@example.org|',
      'LSubject| lunch  with\n  folding|',
      'LX-Old| 1|',
      'LX-Old| 2|',
      'LDate| Sat, 21 Nov 2026 08:00:00 +0000|',
      'N',
      'BShall we have lunch?\r\n\r\n',
      rest.find(line => line.startsWith('DE')) ?? '',
      'E',
    ],
    'our own trace field is not shown',
  );
  t.match(
    rest.find(line => line.startsWith('DE')),
    /\{client_addr\}\|2001:db8::1\|/,
  );
  const { skip, silentBody, ...declined } = steps;
  const none = [
    declined.noConnect,
    declined.noHelo,
    declined.noMail,
    declined.noRcpt,
    declined.noBody,
    declined.noHeaders,
    declined.noEndOfHeader,
    declined.noData,
  ];
  fake.set({ protocol: none.reduce((mask, bit) => mask | bit, skip | silentBody) });
  t.match(await p.message(text), { kind: 'continue' });
  t.same(
    fake.told.filter(line => !/^[DQ]/.test(line)).map(line => line[0]),
    ['O', 'E'],
  );
  fake.set({ on: { B: encodePacket('s') }, protocol: skip });
  const long = Buffer.concat([Buffer.from(text.replaceAll('\n', '\r\n')), Buffer.alloc(300_000, 'x')]);
  t.match(await p.message(long), { kind: 'continue' });
  t.equal(fake.told.filter(line => line.startsWith('B')).length, 1, 'skips the rest of the body');
  fake.set({});
  t.match(await p.message(long), { kind: 'continue' });
  t.equal(
    fake.told.filter(line => line.startsWith('B')).reduce((sum, line) => sum + line.length - 1, 0),
    300_000 + 24,
  );
});

t.test('changes become edits; all verdicts; by recipient', async t => {
  const fake = await startScriptedMilter(t);
  const hosts = [`127.0.0.1:${fake.port}`];
  const p = await open(t, { hosts, retryAfter: '0s' });
  const all = Object.values(changes).reduce((mask, bit) => mask | bit, 0);
  const end = (...packets: Buffer[]): void => fake.set({ actions: all, on: { E: Buffer.concat(packets) } });
  end(
    encodePacket('p'),
    encodePacket('h', strings('X-Added', 'a\n\tb')),
    encodePacket('i', uint32(1), strings('X-Top', 'top')),
    encodePacket('m', uint32(2), strings('X-Old', '')),
    encodePacket('m', uint32(1), strings('Subject', 'dinner')),
    encodePacket('m', uint32(1), strings('Received', 'theirs')),
    encodePacket('+', strings('<carol@example.org>')),
    encodePacket('2', strings('<dave@example.org>', 'NOTIFY=NEVER')),
    encodePacket('-', strings('<bob@example.org>')),
    encodePacket('e', strings('<new@sender.example>')),
    encodePacket('b', Buffer.from('new ')),
    encodePacket('b', Buffer.from('body\r\n')),
    encodePacket('c'),
  );
  const v = await p.message(`${own}Received: by elsewhere\n${text}`);
  t.match(v, { kind: 'continue', outcome: { kind: 'deliver', sender: { text: 'new@sender.example' } } });
  const bytes = (await messageOf(v).bytes()).toString();
  t.match(bytes, /^X-Top: top\r\nReceived: from mx[^\n]*\r\nReceived: theirs\r\n/s);
  t.match(bytes, /\r\nSubject: dinner\r\nX-Old: 1\r\nDate: [^\n]*\nX-Added: a\r\n\tb\r\n\r\nnew body\r\n$/);
  t.same((v.outcome as unknown as { recipients: { address: { text: string } }[] }).recipients.map(r => r.address.text), ['carol@example.org', 'dave@example.org']); // biome-ignore format: one line
  end(encodePacket('q', strings('looks odd')), encodePacket('a'));
  t.match(await p.message(text), { kind: 'quarantine', why: 'looks odd' });
  const verdicts: readonly (readonly [Buffer, object])[] = [
    [encodePacket('a'), { kind: 'continue', evidence: { said: 'accept' } }],
    [encodePacket('r'), { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' } }],
    [encodePacket('t'), { kind: 'defer', reply: { code: 451 } }],
    [encodePacket('4'), { kind: 'defer' }],
    [encodePacket('d'), { kind: 'discard' }],
    [encodePacket('y', strings('554 5.6.0 Not like this')), { kind: 'reject', reply: { code: 554, enhanced: '5.6.0', text: 'Not like this' } }],
    [encodePacket('y', strings('450 4.2.0 Greylisted')), { kind: 'defer', reply: { code: 450, enhanced: '4.2.0', text: 'Greylisted' } }],
  ]; // biome-ignore format: a table
  for (const stage of ['C', 'H', 'M', 'R', 'T', 'L', 'N', 'B', 'E'])
    for (const [packet, wanted] of verdicts) {
      fake.set({ on: { [stage]: packet } });
      t.match(await p.message(text), wanted, `${stage} ${packet.toString('latin1', 4)}`);
    }
  const generic = await open(t, { hosts, reply: 'generic' });
  fake.set({ on: { M: encodePacket('y', strings('550 mx1.inner has score 7')) } });
  t.match(await generic.message(text), { kind: 'reject', reply: { text: 'Message was refused by policy' } });
  const byRecipient = await open(t, { hosts, recipients: true });
  fake.set({ on: { R: encodePacket('y', strings('451 4.7.1 Greylisted')) } });
  t.match(await byRecipient.rcpt('x@example.org'), { kind: 'defer', reply: { code: 451, text: 'Greylisted' } });
  fake.set({ on: { R: encodePacket('d') } });
  t.match(await byRecipient.rcpt('x@example.org'), { kind: 'continue' });
  t.throws(() => parseReply('250 fine', true, 'x'), /no reply/);
  t.match(parseReply('471 strange', true, 'x'), { kind: 'defer', reply: { code: 451, enhanced: '4.7.1' } });
});

t.test('one that breaks the protocol or dies half-way changes nothing', async t => {
  const fake = await startScriptedMilter(t);
  const options = { hosts: [`127.0.0.1:${fake.port}`], allow: ['headers'], retryAfter: '0s' };
  const p = await open(t, options);
  const hurried = await open(t, { ...options, hostTimeout: '300ms' });
  const deadline = /Deadline/;
  const failed = async (name: string, script: Parameters<typeof fake.set>[0], why: RegExp): Promise<void> => {
    fake.set(script);
    const asked = why === deadline ? hurried : p;
    t.match(
      await asked.message(text),
      { kind: 'error', why, outcome: { kind: 'refused', reply: { code: 451 } } },
      name,
    );
  };
  for (const stage of ['O', 'C', 'M', 'L', 'B', 'E']) {
    await failed(`closes at ${stage}`, { on: { [stage]: 'close' } }, /closed|EPIPE|ECONNRESET/);
    await failed(`hangs at ${stage}`, { on: { [stage]: 'silent' } }, deadline);
    await failed(`unknown answer at ${stage}`, { on: { [stage]: encodePacket('Z') } }, /answered 'Z'/);
    await failed(
      `no packet at ${stage}`,
      { on: { [stage]: Buffer.from('HTTP/1.1 400 Bad Request\r\n') } },
      /packet of/,
    );
  }
  const half = Buffer.concat([encodePacket('h', strings('X-A', '1')), encodePacket('b', Buffer.from('half'))]);
  await failed('dies while it changes', { on: { E: Buffer.concat([half, Buffer.from([0, 0])]) } }, deadline);
  await failed('a header without an end', { on: { E: encodePacket('h', Buffer.from('X-A')) } }, /without an end/);
  await failed(
    'a bad name',
    { on: { E: Buffer.concat([encodePacket('h', strings('bad name', '1')), encodePacket('c')]) } },
    /illegal edit/,
  );
  await failed('wants too much', { actions: changes.body }, /not allowed/);
  await failed('unknown steps', { protocol: 0x8000_0000 }, /unknown steps/);
  await failed('old version', { version: 1 }, /version 1/);
  await failed('a reply that is none', { on: { M: encodePacket('y', strings('220 hello')) } }, /no reply/);
  const flood = await startFaultServer(t, {
    kind: 'flood',
    bytes: Buffer.concat([encodePacket('p'), encodePacket('p')]),
  });
  const f = await open(t, { hosts: [`127.0.0.1:${flood.port}`], hostTimeout: '300ms' });
  t.match(await f.message(text), { kind: 'error' }, 'progress for ever');
  const dead = await open(t, { hosts: ['local:/nonexistent'] }, { onError: 'continue' });
  t.match(await dead.message(text), { kind: 'error', outcome: { kind: 'deliver' } });
});

t.test('who waits for a slow milter leaves no listener behind', async t => {
  const socket = new Duplex({
    highWaterMark: 1,
    read: () => undefined,
    write: (_chunk, _encoding, done) => void setImmediate(done),
  });
  const link = new MilterLink(socket as Socket);
  const count = () => socket.listenerCount('close') + socket.listenerCount('error') + socket.listenerCount('drain');
  const before = count();
  for (let times = 0; times < 5; times++) await link.send('B', Buffer.from('x'));
  t.equal(count(), before);
  const waiting = link.send('B', Buffer.from('x'));
  socket.destroy(new Error('reset'));
  await waiting.catch(() => undefined);
  await t.rejects(link.receive(), /reset/);
});

t.test('packets in any pieces', async t => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('a', 'c', 'h', 'E'), fc.uint8Array({ maxLength: 50 })), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }),
      (packets, cuts) => {
        const bytes = Buffer.concat(packets.map(([code, data]) => encodePacket(code, Buffer.from(data))));
        const reader = new PacketReader();
        const seen: unknown[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = cuts[turn % cuts.length] ?? 1;
          reader.push(bytes.subarray(at, at + size));
          at += size;
          for (let packet = reader.next(); packet; packet = reader.next())
            seen.push([packet.code, packet.data.toString('hex')]);
        }
        t.same(seen, packets.map(([code, data]) => [code, Buffer.from(data).toString('hex')])); // biome-ignore format: one line
      },
    ),
    { numRuns: 50 },
  );
});
