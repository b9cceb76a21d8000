import t from 'tap';
import { recipients } from '../../plugins/recipients/index.ts';
import { plugin } from '../harness/plugin.ts';

const setup = {
  accounts: {
    local: ['example.org'],
    virtual: ['shop.example'],
    relay: ['inner.example', 'checked.example'],
    unchecked: ['inner.example'],
    users: { 'bob@example.org': 'x', 'info@shop.example': 'x', 'known@checked.example': 'x' },
  },
};
const unknown = { kind: 'reject', reply: { code: 550, enhanced: '5.1.1' } };
const later = { kind: 'defer', reply: { code: 451, enhanced: '4.3.0' } };

t.test('who exists is accepted, from anybody and from nobody', async t => {
  const p = await plugin(recipients, {}, setup);
  t.teardown(() => p.close());
  for (const sender of ['x@there.example', null]) {
    await p.mail(sender);
    const expected = [
      ['bob@example.org', { kind: 'accept' }],
      ['BOB@EXAMPLE.ORG', { kind: 'accept' }],
      ['bob+lists@example.org', { kind: 'accept' }],
      ['bob+a+b@example.org', { kind: 'accept' }],
      ['info@shop.example', { kind: 'accept' }],
      ['anybody@inner.example', { kind: 'accept' }],
      ['postmaster', { kind: 'accept' }],
      ['PostMaster@shop.example', { kind: 'accept' }],
      ['postmaster@inner.example', { kind: 'accept' }],
      ['eve@example.org', unknown],
      ['bob@shop.example', unknown],
      ['+lists@example.org', unknown],
      ['bob', { kind: 'reject', reply: { enhanced: '5.1.3' } }],
      ['postmaster@there.example', { kind: 'continue', outcome: { reply: { code: 550, enhanced: '5.7.1' } } }],
    ] as const;
    for (const [to, answer] of expected) t.match(await p.rcpt(to), answer, `<${sender ?? ''}> → ${to}`);
  }
});

t.test('a directory that cannot answer is never "unknown user"', async t => {
  const p = await plugin(recipients, {}, setup);
  t.teardown(() => p.close());
  await p.mail('x@there.example');
  t.match(await p.rcpt('anybody@checked.example'), unknown);
  t.match(await p.rcpt('known@checked.example'), { kind: 'accept' });
  p.host.setUnavailable('ldap: connection refused');
  for (const to of ['bob@example.org', 'eve@example.org', 'known@checked.example']) {
    const answer = await p.rcpt(to);
    t.match(answer, { ...later, why: /ldap/ });
    t.notMatch(answer.reply?.text, /ldap|directory/i, 'the client hears nothing of the inside');
  }
  t.match(await p.rcpt('postmaster@example.org'), { kind: 'accept' });
});
