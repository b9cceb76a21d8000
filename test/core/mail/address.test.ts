import t from 'tap';
import { parseDomain, parseMailbox, parsePath, sameAddress } from '../../../core/mail/address.ts';

const text = (input: string, smtputf8 = false): string => {
  const parsed = parseMailbox(input, { smtputf8 });
  return parsed.kind === 'address' ? parsed.address.text : `! ${parsed.reason}`;
};
const address = (input: string) => {
  const parsed = parseMailbox(input, { smtputf8: true });
  if (parsed.kind === 'error') throw new Error(`'${input}' is no address: ${parsed.reason}`);
  return parsed.address;
};

t.test('mailboxes have one canonical form', async t => {
  for (const [input, expected] of [
    ['user@Example.ORG', 'user@example.org'],
    ['User.Name+tag@example.org', 'User.Name+tag@example.org'],
    ["o'hara=x/y{z}|~@example.org", "o'hara=x/y{z}|~@example.org"],
    ['"user"@example.org', 'user@example.org'],
    ['"us\\er"@example.org', 'user@example.org'],
    ['"a b"@example.org', '"a b"@example.org'],
    ['"a@b"@example.org', '"a@b"@example.org'],
    ['"a\\"b\\\\"@example.org', '"a\\"b\\\\"@example.org'],
    ['""@example.org', '""@example.org'],
    ['"a..b"@example.org', '"a..b"@example.org'],
    ['user@[192.0.2.1]', 'user@[192.0.2.1]'],
    ['user@[IPv6:2001:DB8::1]', 'user@[IPv6:2001:db8::1]'],
    ['user@[ipv6:::1]', 'user@[IPv6:::1]'],
    ['user@localhost', 'user@localhost'],
    ['user@my_host.example.org', 'user@my_host.example.org'],
    ['user@XN--BCHER-KVA.example', 'user@xn--bcher-kva.example'],
    [`${'x'.repeat(100)}@example.org`, `${'x'.repeat(100)}@example.org`],
  ] as const)
    t.equal(text(input), expected, input);
});

t.test('what is no mailbox is refused with a reason', async t => {
  for (const [input, reason] of [
    ['', 'empty'],
    ['user', 'no-domain'],
    ['@example.org', 'local-part'],
    ['user@', 'domain'],
    ['a..b@example.org', 'local-part'],
    ['.a@example.org', 'local-part'],
    ['a.@example.org', 'local-part'],
    ['a b@example.org', 'local-part'],
    ['a@b@example.org', 'domain'],
    ['a%b@c@example.org', 'domain'],
    ['"a@example.org', 'local-part'],
    ['"a"b@example.org', 'syntax'],
    ['"a\r\nb"@example.org', 'local-part'],
    ['a\x00@example.org', 'local-part'],
    ['user@example.org.', 'domain'],
    ['user@.example.org', 'domain'],
    ['user@example..org', 'domain'],
    ['user@-a.org', 'domain'],
    ['user@a-.org', 'domain'],
    [`user@${'a'.repeat(64)}.org`, 'domain'],
    [`user@${'a.'.repeat(128)}org`, 'domain'],
    ['user@exa mple.org', 'domain'],
    ['user@example.org ', 'domain'],
    ['user@[192.0.2.256]', 'domain'],
    ['user@[192.0.2.1', 'domain'],
    ['user@[192.0.2.1]x', 'domain'],
    ['user@[x400:abc]', 'domain'],
    ['user@[2001:db8::1]', 'domain'],
    ['user@[IPv6:fe80::1%eth0]', 'domain'],
    ['usér@example.org', 'non-ascii'],
    ['user@bücher.example', 'non-ascii'],
    [`${'x'.repeat(300)}@example.org`, 'local-part'],
    [`${'x'.repeat(3000)}@example.org`, 'too-long'],
  ] as const)
    t.equal(text(input), `! ${reason}`, JSON.stringify(input).slice(0, 60));
});

t.test('with SMTPUTF8, domains become A-labels and local parts stay', async t => {
  t.equal(text('usér@BÜCHER.example', true), 'usér@xn--bcher-kva.example');
  t.equal(text('用户@例子.广告', true), '用户@xn--fsqu00a.xn--4rr70v');
  t.equal(text('a@bücher。example', true), 'a@xn--bcher-kva.example', 'an ideographic full stop is a dot');
  t.equal(text('a@１２７.0.0.1', true), 'a@127.0.0.1', 'full-width digits are digits');
  t.equal(text('a@bü%63her.example', true), '! domain');
  t.equal(text('a@bü/x', true), '! domain');
  t.equal(parseDomain('EXAMPLE.org'), 'example.org');
});

t.test('paths', async t => {
  t.same(parsePath('<>'), { kind: 'path', address: null });
  t.match(parsePath('<a@example.org>'), { kind: 'path', address: { text: 'a@example.org' } });
  t.match(parsePath('<@x.example,@[192.0.2.1],@[IPv6:::1]:a@example.org>'), {
    address: { text: 'a@example.org' },
    sourceRoute: '@x.example,@[192.0.2.1],@[IPv6:::1]',
  });
  t.match(parsePath('<PostMaster>'), { kind: 'path', address: { local: 'PostMaster', domain: '' } });
  for (const [input, reason] of [
    ['a@example.org', 'syntax'],
    ['<a@example.org', 'syntax'],
    ['<root>', 'no-domain'],
    ['<@x.example>', 'syntax'],
    ['<@x.example:>', 'empty'],
    ['<@-x:a@example.org>', 'domain'],
    ['<@x a@example.org>', 'syntax'],
    ['<<a@example.org>>', 'local-part'],
    ['<a@example.org>>', 'domain'],
    [`<${'@a.example,'.repeat(500)}@b:x@c>`, 'too-long'],
  ] as const)
    t.match(parsePath(input), { kind: 'error', reason }, input.slice(0, 60));
  t.equal(parseMailbox('root', { bareLocal: true }).kind, 'address');
});

t.test('addresses compare by what they mean', async t => {
  const same = (a: string, b: string, mode: 'sensitive' | 'insensitive'): boolean =>
    sameAddress(address(a), address(b), mode);
  t.equal(same('"user"@EXAMPLE.org', 'user@example.org', 'sensitive'), true);
  t.equal(same('User@example.org', 'user@example.org', 'sensitive'), false);
  t.equal(same('User@example.org', 'user@example.org', 'insensitive'), true);
  t.equal(same('Postmaster@example.org', 'postMASTER@example.org', 'sensitive'), true);
  t.equal(same('user@example.org', 'user@example.com', 'insensitive'), false);
  t.equal(same('u\u0308@example.org', '\u00fc@example.org', 'sensitive'), true, 'composed or not');
});
