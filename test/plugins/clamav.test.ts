import { readFile } from 'node:fs/promises';
import { deflateRawSync } from 'node:zlib';
import t from 'tap';
import { clamav } from '../../plugins/clamav/index.ts';
import { options } from '../../plugins/clamav/options.ts';
import { actionFor, matchesPattern } from '../../plugins/clamav/policy.ts';
import { parseVersion } from '../../plugins/clamav/scanner.ts';
import { eicar, startClamd } from '../harness/clamd.ts';
import { requireEngines } from '../harness/engine.ts';
import { startFaultServer } from '../harness/fault-server.ts';
import { type Answered, type DrivenPlugin, type PluginSetup, plugin } from '../harness/plugin.ts';
import { macroDocument } from './macro-document.ts';

const crc32Table = Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});
const crc32 = (bytes: Buffer): number =>
  (bytes.reduce((crc, byte) => (crc32Table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8), 0xffffffff) ^ 0xffffffff) >>> 0;

/** A zip archive of one deflated member; `encrypted` only says so in the flags, which is what a scanner sees. */
function zip(name: string, content: Buffer, encrypted = false): Buffer {
  const data = deflateRawSync(content);
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(20, 0);
  fields.writeUInt16LE(encrypted ? 1 : 0, 2);
  fields.writeUInt16LE(8, 4);
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(data.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(name.length, 22);
  const local = Buffer.concat([Buffer.from('PK\x03\x04'), fields, Buffer.from(name), data]);
  const central = Buffer.concat([
    Buffer.from('PK\x01\x02\x14\0', 'latin1'),
    fields,
    Buffer.alloc(14),
    Buffer.from(name),
  ]);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(1, 4);
  end.writeUInt16LE(1, 6);
  end.writeUInt32LE(central.length, 8);
  end.writeUInt32LE(local.length, 12);
  return Buffer.concat([local, central, Buffer.from('PK\x05\x06'), end]);
}

/** Whether anybody is connected to that port of this machine. */
async function connected(port: number): Promise<boolean> {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const table = await readFile('/proc/net/tcp', 'latin1');
  return new RegExp(`^\\s*\\d+: \\S+ 0100007F:${hex} 01`, 'm').test(table);
}

const header = 'From: a@b.example\nTo: bob@example.org\nSubject: x\nMIME-Version: 1.0\n';
const attached = (content: Buffer, name = 'a.zip'): string =>
  `${header}Content-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/octet-stream; name=${name}\nContent-Disposition: attachment; filename=${name}\nContent-Transfer-Encoding: base64\n\n${content.toString('base64').replace(/.{76}/g, '$&\n')}\n--b--\n`;
const quotedPrintable = eicar.replaceAll('=', '=3D').replace(/[$!]/g, c => `=${c.charCodeAt(0).toString(16)}`);

const infected: Readonly<Record<string, string>> = {
  'plain part': `${header}\n${eicar}\n`,
  'nested MIME': `${header}Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\n${attached(Buffer.from(eicar), 'x.com')}\n--a--\n`,
  zip: attached(zip('eicar.com', Buffer.from(eicar))),
  'zip in zip': attached(zip('inner.zip', zip('eicar.com', Buffer.from(eicar)))),
  base64: `${header}Content-Transfer-Encoding: base64\n\n${Buffer.from(eicar).toString('base64')}\n`,
  'quoted-printable': `${header}Content-Transfer-Encoding: quoted-printable\n\n${quotedPrintable.slice(0, 40)}=\n${quotedPrintable.slice(40)}\n`,
};
const clean = `${header}\nhello\n`;

async function open(
  t: { teardown(run: () => unknown): void },
  given: object,
  setup: PluginSetup = {},
): Promise<DrivenPlugin> {
  const p = await plugin(clamav, given, setup);
  t.teardown(() => p.close());
  await p.connect();
  await p.mail('a@b.example');
  await p.rcpt('bob@example.org');
  return p;
}
const field = ({ outcome }: Answered<{ readonly kind: string }>, name = 'X-Virus-Status'): string | undefined =>
  'message' in outcome
    ? (outcome.message as { headers: { get(name: string): { value: string } | undefined } }).headers.get(name)?.value
    : undefined;

t.test('EICAR is found wherever it hides, over unix socket and TCP; clean mail passes', async t => {
  if (!requireEngines(t, 'clamav', 'clamd')) return;
  const clamd = await startClamd(t, ['AlertEncrypted yes', 'AlertOLE2Macros yes', 'StreamMaxLength 1M']);
  for (const where of [clamd.socket, `127.0.0.1:${clamd.port}`]) {
    const p = await open(t, { hosts: [where] });
    for (const [name, message] of Object.entries(infected)) {
      const v = await p.message(message);
      t.match(v, { kind: 'reject', reply: { code: 550, enhanced: '5.7.1' }, why: /Eicar-Test-Signature/ }, name);
      t.notMatch(v.reply?.text ?? '', /eicar|clam/i, 'the client does not hear what found it');
    }
    const forged = await p.message(`X-Virus-Status: Clean (trust me)\n${clean}`);
    t.equal(forged.kind, 'continue');
    t.equal(field(forged), 'Clean');
    t.match(await p.message(Buffer.alloc(0)), { kind: 'continue' }, 'an empty message');
    t.match(await p.status(), { [where]: /^ClamAV \d/ });
  }
  const p = await open(t, { hosts: [clamd.socket], infected: 'tag' });
  t.equal(field(await p.message(infected['zip'] ?? '')), 'Infected (Eicar-Test-Signature.UNOFFICIAL)');
  t.equal(
    field(await p.message(attached(zip('secret.txt', Buffer.from('secret'), true)))),
    'Infected (Heuristics.Encrypted.Zip)',
  );
  const held = await open(t, {
    hosts: [clamd.socket],
    rules: [{ signature: 'eicar*signature', action: 'quarantine' }],
    encrypted: 'discard',
  });
  t.match(await held.message(infected['zip'] ?? ''), { kind: 'quarantine', outcome: { kind: 'quarantine' } });
  t.match(await held.message(attached(zip('a', Buffer.from('x'), true))), { kind: 'discard' });
  const macro = attached(macroDocument(), 'a.doc');
  t.match(await p.message(macro), { kind: 'quarantine', why: /Heuristics\.OLE2\.ContainsMacros\.VBA/ });
  const lenient = await open(t, { hosts: [clamd.socket], macros: 'tag' });
  t.match(field(await lenient.message(macro)), /^Infected \(Heuristics\.OLE2/);
  const large = Buffer.from(`${clean.replaceAll('\n', '\r\n')}${'x'.repeat(76)}\r\n`.repeat(40_000));
  t.match(
    await p.message(large),
    { kind: 'error', why: /size limit exceeded|ECONNRESET|EPIPE/ },
    'over StreamMaxLength',
  );
  t.match(await p.message(clean), { kind: 'continue' });
  const gated = await open(t, { hosts: [clamd.socket], maxSize: '1KiB' });
  t.equal(field(await gated.message(large)), 'Not scanned (too large)');
  const silent = await open(t, { hosts: [clamd.socket], maxSize: '1KiB', oversized: 'pass' });
  const claimed = Buffer.concat([Buffer.from('X-Virus-Status: Clean\r\n'), large]);
  t.equal(field(await silent.message(claimed)), undefined, 'a claim from outside goes in any case');
  const strict = await open(t, { hosts: [clamd.socket], maxSize: '1KiB', oversized: 'reject' });
  t.match(await strict.message(large), { kind: 'reject', reply: { code: 552 } });
});

t.test('hosts that are stopped, frozen or dying are passed over; with none left the entry fails', async t => {
  if (!requireEngines(t, 'clamav faults', 'clamd')) return;
  const [first, second] = await Promise.all([startClamd(t), startClamd(t)]);
  const hosts = [first.socket, `127.0.0.1:${second.port}`];
  // Long enough for the one that answers, on any machine.
  const p = await open(t, { hosts, hostTimeout: '5s', connectTimeout: '3s', retryAfter: '0s' });
  const hurried = await open(t, { hosts, hostTimeout: '300ms' });
  t.match(await p.message(infected['zip'] ?? ''), { kind: 'reject', evidence: { host: first.socket } });
  first.freeze();
  t.match(await p.message(infected['zip'] ?? ''), { kind: 'reject', evidence: { host: hosts[1] } }, 'first is frozen');
  t.match(await p.status(), { [first.socket]: /does not answer/, [hosts[1] ?? '']: /^ClamAV/ });
  second.freeze();
  t.match(
    await hurried.message(clean),
    { kind: 'error', outcome: { kind: 'refused', reply: { code: 451 } } },
    'both frozen',
  );
  first.thaw();
  t.match(await p.message(clean), { kind: 'continue', evidence: { host: first.socket } }, 'back again');
  await first.kill();
  second.thaw();
  t.match(await p.message(clean), { kind: 'continue', evidence: { host: hosts[1] } }, 'first is stopped');
  second.freeze();
  const patient = await open(t, { hosts: [hosts[1]] });
  const scanning = patient.message(clean);
  while (!(await connected(second.port))) await new Promise(setImmediate);
  await second.kill();
  t.match(await scanning, { kind: 'error', why: /ECONNRESET|Closed|aborted/ }, 'killed while it scans');
  t.match(await p.message(clean), { kind: 'error', why: /No host answered: .*(ENOENT|ECONNREFUSED)/ });
  const open2 = await open(t, { hosts }, { onError: 'continue' });
  t.match(await open2.message(clean), { kind: 'error', outcome: { kind: 'deliver' } }, 'onError: continue');
});

t.test('only a clear answer counts', async t => {
  const server = await startFaultServer(t, { kind: 'silent' });
  const hosts = [`127.0.0.1:${server.port}`];
  const refused = { kind: 'refused', reply: { code: 451 } };
  const hurried = await open(t, { hosts, hostTimeout: '200ms' });
  t.match(await hurried.message(clean), { kind: 'error', why: /Deadline/, outcome: refused }, 'silence');
  const p = await open(t, { hosts, retryAfter: '0s' });
  const failed = async (name: string, why: RegExp, message: string | Buffer = clean): Promise<void> => {
    t.match(await p.message(message), { kind: 'error', why, outcome: refused }, name);
  };
  for (const bytes of [
    '',
    '\0',
    'UNKNOWN COMMAND\0',
    'garbage: OK\0',
    'x\nstream: OK',
    '\xff\xfe\0\x01',
    'a: b FOUND\0',
    "stream: Can't allocate memory ERROR\0",
  ]) {
    server.set({ kind: 'say', bytes });
    await failed(JSON.stringify(bytes), /aborted|Closed|Answered|ECONNRESET|EPIPE|allocate memory/);
  }
  server.set({ kind: 'say', bytes: 'INSTREAM size limit exceeded. ERROR\0' });
  await failed('an error', /size limit|ECONNRESET|EPIPE/);
  server.set({ kind: 'reset', afterBytes: 10 });
  await failed('reset at once', /ECONNRESET|EPIPE|aborted/);
  server.set({ kind: 'reset', afterBytes: 1_000_000 });
  await failed('reset in the middle', /ECONNRESET|EPIPE|aborted/, Buffer.alloc(8_000_000, 'x'));
  server.set({ kind: 'flood', bytes: 'x'.repeat(10_000) });
  await failed('an answer without end', /no end|aborted/);
  const dead = await open(t, { hosts: ['/nonexistent/clamd.ctl'] });
  t.match(await dead.message(clean), { kind: 'error', why: /ENOENT/ });
  await t.rejects(plugin(clamav, { hosts: ['no host!'] }), { name: 'ChainError' });
  await t.rejects(plugin(clamav, { hosts: [] }), { name: 'ChainError' });
});

t.test('signatures by name, and what VERSION says', async t => {
  const settings = options.parse({ rules: [{ signature: 'Sanesecurity.*.Spam*', action: 'ignore' }] });
  t.equal(actionFor('Heuristics.OLE2.ContainsMacros.VBA', settings), 'quarantine');
  t.equal(actionFor('Heuristics.Encrypted.PDF', settings), 'tag');
  t.equal(actionFor('Heuristics.Phishing.Email.SpoofedDomain', settings), 'quarantine');
  t.equal(actionFor('Heuristics.Limits.Exceeded.MaxRecursion', settings), 'tag');
  t.equal(actionFor('PUA.Win.Tool.X', settings), 'tag');
  t.equal(actionFor('Win.Trojan.X-1', settings), 'reject');
  t.equal(actionFor('Sanesecurity.Foo.SpamX.UNOFFICIAL', settings), 'ignore');
  t.ok(matchesPattern('abc', 'a*c'));
  t.notOk(matchesPattern('aa', 'aa*a'));
  t.notOk(matchesPattern('ab', 'a'));
  t.match(parseVersion('ClamAV 1.4.6/27812/Fri Nov 20 09:30:00 2026\n'), {
    engine: 'ClamAV 1.4.6',
    signatures: 27812,
    madeAt: Date.parse('Fri Nov 20 09:30:00 2026'),
  });
  t.same(parseVersion('ClamAV 1.4.6\0'), { engine: 'ClamAV 1.4.6' });
  t.equal(parseVersion('HTTP/1.1 400 Bad Request'), undefined);
  const server = await startFaultServer(t, { kind: 'say', bytes: 'ClamAV 1.0.0/100/Mon Jan  5 09:30:00 2026\n' });
  const p = await open(t, { hosts: [`127.0.0.1:${server.port}`] });
  t.match(await p.status(), { [`127.0.0.1:${server.port}`]: /signatures 100, \d+\.\d days old: too old/ });
});
