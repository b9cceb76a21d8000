import t from 'tap';
import { glob } from '../../core/lib/glob.ts';
import { headers } from '../../plugins/headers/index.ts';
import { type ClientFacts, plugin } from '../harness/plugin.ts';

async function edited(rule: object, text: string, client: ClientFacts = {}, sender: string | null = 'a@b.test') {
  const p = await plugin(headers, { rules: [rule] }, { relayNetworks: ['198.51.100.0/24'] });
  t.teardown(() => p.close());
  await p.connect(client);
  await p.helo('client.test');
  await p.mail(sender);
  await p.rcpt('bob@example.org');
  const answer = await p.message(`${text}\n\nbody\n`);
  t.equal(answer.kind, 'continue');
  const { message } = answer.outcome as { readonly message?: { bytes(): Promise<Buffer> } };
  return (await message?.bytes())
    ?.toString('latin1')
    .replaceAll('\r\n', '\n')
    .replace(/\n\nbody\n$/, '');
}

t.test('what is done to fields; others keep their bytes', async t => {
  const text = 'X-Int-A: 1\nSubject:  odd\n  spacing \nx-int-b: 2\nX-Int: 3';
  t.equal(await edited({ remove: ['X-Int-*'] }, text), 'Subject:  odd\n  spacing \nX-Int: 3');
  t.equal(
    await edited({ add: { 'X-A': '{sender} {client} {helo} {odd}', 'X-B': '{user}.' } }, 'A: 1'),
    'X-A: a@b.test 192.0.2.1 client.test {odd}\nX-B: .\nA: 1',
  );
  t.equal(await edited({ replace: { A: 'new', C: 'c' } }, 'A: 1\nB: 2\nA: 3'), 'A: new\nB: 2\nC: c');
  await t.rejects(plugin(headers, { rules: [{ add: { 'X-A': 'x\r\nEvil: 1' } }] }), { name: 'ChainError' });
});

t.test('trace fields of outgoing mail', async t => {
  const text =
    'Received: from pc7 ([10.0.0.7]) by gateway.test; x\nSubject: s\nReceived: from inner by exch01\nReceived: by app';
  t.equal(await edited({ received: 'earlier' }, text), text.split('\n').slice(0, 2).join('\n'));
  t.match(
    await edited({ received: 'hide' }, text),
    /^Received: by gateway\.test id q\d+; \w{3}, \d.* \+0000\nSubject: s$/,
  );
  t.equal(await edited({ received: 'hide' }, 'Subject: s'), 'Subject: s');
  t.equal(await edited({ received: 'keep' }, text), text);
});

t.test('conditions', async t => {
  const add = { add: { Y: 'y' } };
  const holds = async (rule: object, text = 'A: 1', client: ClientFacts = {}, sender: string | null = 'a@b.test') =>
    (await edited({ ...rule, ...add }, text, client, sender))?.startsWith('Y: y\n');
  t.ok(await holds({ field: { subject: '*über*' } }, 'Subject: =?utf-8?q?Nachricht_=C3=BCber_uns?='));
  t.notOk(await holds({ field: { subject: '*x*', A: '1' } }, 'Subject: y\nA: 1'));
  t.ok(await holds({ missing: ['B'] }));
  t.notOk(await holds({ missing: ['a'] }));
  t.ok(await holds({ sender: ['*@B.test'] }));
  t.ok(await holds({ sender: [''] }, 'A: 1', {}, null));
  t.notOk(await holds({ sender: ['*@c.test'] }));
  t.ok(await holds({ recipient: ['x@*', 'bob@*'] }));
  t.notOk(await holds({ recipient: ['x@*'] }));
  t.ok(await holds({ client: ['192.0.2.0/24'] }));
  t.notOk(await holds({ client: ['2001:db8::/32'] }));
  t.ok(await holds({ origin: 'outside' }));
  t.ok(await holds({ origin: 'inside' }, 'A: 1', { remote: '198.51.100.1' }));
  t.notOk(await holds({ origin: 'outside' }, 'A: 1', { identity: 'bob' }));
  await t.rejects(plugin(headers, { rules: [{ add: { 'A B': 'x' } }] }), { name: 'ChainError' });
  await t.rejects(plugin(headers, { rules: [{ client: ['nowhere'] }] }), { name: 'ChainError' });
});

t.test('patterns', async t => {
  for (const [pattern, text, wanted] of [
    ['', '', true],
    ['*', '', true],
    ['?', '', false],
    ['a*b*c', 'aXbYbZc', true],
    ['a*b', 'abc', false],
    ['A?C', 'abc', true],
    ['*a*a*a*a*a*a*b', 'a'.repeat(2000), false],
  ] as const)
    t.equal(glob(pattern)(text), wanted, pattern);
});
