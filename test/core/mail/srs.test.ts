import { execFileSync } from 'node:child_process';
import t from 'tap';
import { type Address, makeAddress, parseMailbox } from '../../../core/mail/address.ts';
import { createSrs, looksLikeSrs } from '../../../core/mail/srs.ts';
import { findEngine, requireEngines } from '../../harness/engine.ts';
import { fc } from '../../harness/fuzz.ts';

const now = Date.UTC(2026, 10, 28, 12);
const day = 86_400_000;
const settings = { domain: 'fwd.test', secrets: ['new secret', 'old secret'] };
const srs = createSrs(settings);

function address(text: string): Address {
  const parsed = parseMailbox(text, { smtputf8: true });
  if (parsed.kind === 'error') throw new Error(`'${text}' is no address`);
  return parsed.address;
}
const rewritten = (text: string, by = srs, at = now): string => by.rewrite(address(text), at)?.text ?? '';
function reversed(text: string, by = srs, at = now): string {
  const answer = by.reverse(address(text), at);
  return answer.kind === 'address' ? answer.address.text : answer.kind;
}

t.test('a first hop, and the way back', async t => {
  const made = rewritten('Bob@a.test');
  t.match(made, /^SRS0=[\w+/]{4}=[A-Z2-7]{2}=a\.test=Bob@fwd\.test$/);
  t.ok(looksLikeSrs(address(made)));
  t.equal(reversed(made), 'Bob@a.test');
  t.equal(reversed(made.toLowerCase()), 'bob@a.test', 'software on the way lower-cases local parts');
  t.equal(rewritten('x@fwd.test'), 'x@fwd.test', 'our own domain needs none');
  for (const odd of [
    'a=b+c-d@a.test',
    '"a b"@a.test',
    '"@"@[192.0.2.1]',
    'x@[IPv6:2001:db8::1]',
    'ü@b.test',
    '""@a.test',
  ])
    t.equal(reversed(rewritten(odd)), odd);
  t.equal(rewritten(`${'x'.repeat(250)}@a.test`), '', 'what would be too long for an address');
});

t.test('later hops: the first hop is named, the chain never grows', async t => {
  const b = createSrs({ domain: 'b.test', secrets: ['of b'], separator: '+' });
  const c = createSrs({ domain: 'c.test', secrets: ['of c'] });
  const first = rewritten('bob@a.test');
  const second = rewritten(first, b);
  t.match(second, /^SRS1\+[\w+/]{4}=fwd\.test==[\w+/]{4}=..=a\.test=bob@b\.test$/);
  const third = rewritten(second, c);
  t.match(third, /^SRS1=[\w+/]{4}=fwd\.test==[\w+/]{4}=..=a\.test=bob@c\.test$/);
  t.equal(reversed(third, c), first, 'the last one sends the bounce to the first hop at once');
  t.equal(reversed(second, b), first);
  t.equal(reversed(first), 'bob@a.test');
  t.equal(reversed(third), 'forged', 'only by whom it was made');
  t.equal(reversed(rewritten(second)), 'bob@a.test', 'the first hop was we ourselves');
  t.match(rewritten('srs0+abcd=XY=q.test=eve@z.test'), /^SRS1=.{4}=z\.test=\+abcd=XY=q\.test=eve@fwd\.test$/);
});

t.test('what comes back is good only from us and for a time', async t => {
  const made = rewritten('bob@a.test');
  t.equal(reversed(made, srs, now + 21 * day), 'bob@a.test');
  t.equal(reversed(made, srs, now + 22 * day), 'expired');
  t.equal(reversed(made, srs, now - day), 'bob@a.test', 'the clock of another gateway is ahead');
  t.equal(reversed(made, srs, now - 2 * day), 'expired');
  t.equal(reversed(made, createSrs({ ...settings, maxAgeDays: 30 }), now + 30 * day), 'bob@a.test');
  for (const [from, to] of [
    ['bob', 'eve'],
    ['=a.test', '=b.test'],
    [/=..=a/, '=AA=a'],
    [/^SRS0=.{4}/, 'SRS0=aaaa'],
    [/^SRS0=.{4}/, 'SRS0='],
    [/^SRS0=(.{3})./, 'SRS0=$1'],
  ] as const)
    t.equal(reversed(made.replace(from, to)), 'forged', made.replace(from, to));
  for (const other of [
    'bob@fwd.test',
    'SRS0=x@fwd.test',
    'SRS0-bob@fwd.test',
    'srs1=a=b@fwd.test',
    'SRS0=abcd=A1=a.test=b@fwd.test',
  ])
    t.equal(reversed(other), 'not-srs', other);
});

t.test('secrets rotate: the first makes, all are good', async t => {
  const before = createSrs({ ...settings, secrets: ['old secret'] });
  const after = createSrs({ ...settings, secrets: ['new secret'] });
  t.equal(reversed(rewritten('bob@a.test', before)), 'bob@a.test');
  t.equal(reversed(rewritten('bob@a.test'), after), 'bob@a.test');
  t.equal(reversed(rewritten('bob@a.test'), before), 'forged');
  for (const secrets of [[], ['a', '']]) t.throws(() => createSrs({ ...settings, secrets }));
  const long = createSrs({ ...settings, hashLength: 12 });
  t.match(rewritten('bob@a.test', long), /^SRS0=[\w+/]{12}=/);
  t.equal(reversed(rewritten('bob@a.test', long)), 'bob@a.test', 'a longer hash than ours is compared whole');
  t.equal(reversed(rewritten('bob@a.test'), long), 'forged');
  t.throws(() => createSrs({ ...settings, hashLength: 28 }));
});

t.test('any sender comes back as it was; nothing else than what we made is taken', async t => {
  const local = fc.string({ minLength: 1, maxLength: 40, unit: fc.constantFrom(...'abSR01=+-.@ "\\ü') });
  fc.assert(
    fc.property(local, fc.boolean(), (name, twice) => {
      const sender = makeAddress(name, 'a.test');
      if (looksLikeSrs(sender) || parseMailbox(sender.text, { smtputf8: true }).kind === 'error') return true;
      const once = srs.rewrite(sender, now) as Address;
      const back = srs.reverse(twice ? (srs.rewrite({ ...once, domain: 'fwd.test' }, now) as Address) : once, now);
      return back.kind === 'address' && back.address.text === sender.text;
    }),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 60, unit: fc.constantFrom(...'srSR01=+-.a') }), text => {
      const { kind } = srs.reverse(makeAddress(text, 'fwd.test'), now);
      return kind === 'not-srs' || kind === 'forged';
    }),
    { numRuns: 2_000, examples: [['SRS0=aaaa=AA=a=b'], ['SRS1=aaaa=a==aaaa=AA=a=b']] },
  );
  t.pass();
});

t.test('the same addresses as Mail::SRS makes, which libsrs2 and postsrsd follow', async t => {
  if (!requireEngines(t, 'SRS against Mail::SRS', 'mail-srs')) return;
  const script = `
    use Mail::SRS; my ($method, $address) = @ARGV;
    my $srs = Mail::SRS->new(Secret => ['new secret'], MaxAge => 21);
    print $method eq 'forward' ? $srs->forward($address, 'fwd.test') : $srs->reverse($address);`;
  const perl = (method: string, text: string): string =>
    execFileSync(findEngine('perl') ?? 'perl', ['-e', script, method, text], { encoding: 'utf8' });
  const today = Date.now();
  for (const sender of [
    'bob@a.test',
    'Bob=x+y-z@a.test',
    'SRS0=abcd=XY=q.test=eve@z.test',
    'srs1+abcd=z.test=-ab=XY=q.test=e@y.test',
  ]) {
    const theirs = perl('forward', sender);
    const ours = rewritten(sender, srs, today);
    t.ok(
      [today - day, today, today + day].some(at => rewritten(sender, srs, at) === theirs),
      `${theirs} ${ours}`,
    );
    t.equal(perl('reverse', ours), reversed(ours, srs, today));
  }
});
