// Case folders: `test/cases/mail-auth/<standard>/<case>/case.yaml`, each with the clause it stands for and a DNS zone of its
// own, which a real DNS server serves. Keys are made anew for each run: `{rsa}`, `{ed25519}` … in a zone are their public halves.
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import type { Message } from '../../core/mail/message.ts';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import type { ArcResult, DmarcResult } from '../../plugins/mail-auth/results.ts';
import type { Zone } from '../harness/dns-server.ts';
import { forgeArcSet, forgeSignature, makeKey, type SigningKey } from '../harness/forge-signature.ts';
import { type DrivenPlugin, plugin } from '../harness/plugin.ts';
import { sourcePath } from '../harness/root.ts';

interface Step {
  /** Tag list of a DKIM-Signature. */
  readonly dkim?: string;
  readonly arc?: { readonly aar: string; readonly ams: string; readonly as: string };
  readonly key?: string;
  readonly canonical?: string;
  readonly hash?: string;
  /** First occurrence of a text, and what it becomes. */
  readonly replace?: readonly [from: string, to: string];
  /** Put before or behind the message. */
  readonly prepend?: string;
  readonly append?: string;
}

type Assertions = Pick<typeof t, 'match' | 'equal' | 'same'>;

interface Test {
  readonly name?: string;
  readonly client?: string;
  readonly role?: 'smtp' | 'submission' | 'lmtp';
  readonly identity?: string;
  readonly helo?: string;
  readonly from?: string | null;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly message?: string;
  readonly steps?: readonly Step[];
  readonly expect: {
    readonly spf?: string;
    readonly spfHelo?: string;
    readonly why?: string;
    readonly dkim?: readonly string[];
    readonly arc?: Partial<ArcResult>;
    readonly dmarc?: Partial<DmarcResult>;
    /** Answer of the MAIL hook, and of the message hook. */
    readonly mail?: string;
    readonly verdict?: string;
    readonly reply?: string;
    /** Lines that the topmost Authentication-Results field must hold. */
    readonly results?: readonly string[];
    /** All Authentication-Results fields after the edits, by their first word. */
    readonly fields?: readonly string[];
    readonly asked?: number;
  };
}

interface Case {
  readonly clause: string;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly zone: Zone;
  readonly fault?: 'servfail' | 'timeout';
  readonly message?: string;
  readonly tests: readonly Test[];
}

const keys: Readonly<Record<string, SigningKey>> = {
  rsa: makeKey('rsa'),
  other: makeKey('rsa'),
  weak: makeKey('rsa', 512),
  ed25519: makeKey('ed25519'),
};
const plain =
  'From: Ann <ann@example.test>\nTo: bob@here.test\nSubject: hello\nDate: Sat, 21 Nov 2026 06:00:00 +0000\n\nHi.\n\nBye.\n';

const fill = (text: string): string => text.replace(/\{(\w+)\}/g, (all, name: string) => keys[name]?.published ?? all);
const crlf = (text: string): string => text.replace(/\r?\n/g, '\r\n');

function apply(message: string, step: Step): string {
  const key = keys[step.key ?? 'rsa'];
  if (!key) throw new Error(`Case names key '${step.key}'`);
  const options = {
    key,
    ...(step.canonical ? { canonical: step.canonical } : {}),
    ...(step.hash ? { hash: step.hash } : {}),
  };
  if (step.dkim !== undefined) return forgeSignature(message, crlf(step.dkim), options);
  if (step.arc) return forgeArcSet(message, step.arc, options);
  if (step.replace) {
    const [from, to] = step.replace.map(crlf) as [string, string];
    if (!message.includes(from)) throw new Error(`Case replaces '${from}', which is not there`);
    return message.replace(from, () => to);
  }
  return `${crlf(step.prepend ?? '')}${message}${crlf(step.append ?? '')}`;
}

/** RFC 1035 §3.3: a string of a TXT record has at most 255 octets. */
const strings = (text: string | readonly string[]): readonly string[] =>
  [text].flat().flatMap(part => part.match(/.{1,255}/gs) ?? ['']);
const served = (zone: Zone): Zone =>
  Object.fromEntries(
    Object.entries(zone).map(([name, node]) => [name, node.TXT ? { ...node, TXT: node.TXT.map(strings) } : node]),
  );

const build = (test: Test, fallback: string | undefined): Buffer =>
  Buffer.from((test.steps ?? []).reduce(apply, crlf(test.message ?? fallback ?? plain)), 'latin1');

async function resultFields(outcome: {
  readonly kind: string;
  readonly message?: Message;
}): Promise<readonly string[]> {
  return (outcome.message?.headers.all('authentication-results') ?? []).map(({ value }) => value);
}

async function run(t: Assertions, p: DrivenPlugin, test: Test, fallback: string | undefined): Promise<void> {
  const { expect } = test;
  p.host.dnsServer?.asked.splice(0);
  await p.connect({
    remote: test.client ?? '192.0.2.1',
    ...(test.role ? { role: test.role } : {}),
    ...(test.identity ? { identity: test.identity } : {}),
  });
  await p.helo(test.helo ?? 'client.test');
  const mail = await p.mail(test.from === undefined ? 'ann@example.test' : test.from);
  const found = mail.evidence ?? {};
  if (expect.spf) t.match(found['spf'], new RegExp(`^SPF ${expect.spf} `), `SPF: ${found['spf']}`);
  if (expect.spfHelo) t.match(found['helo'], new RegExp(`^SPF ${expect.spfHelo} `), `HELO: ${found['helo']}`);
  if (expect.why) t.match(found['spf'], expect.why);
  if (expect.mail) t.equal(mail.kind, expect.mail, mail.why ?? '');
  if (expect.mail && expect.reply) t.match(`${mail.reply?.code} ${mail.reply?.enhanced}`, expect.reply);
  if (expect.asked !== undefined)
    t.equal(p.host.dnsServer?.asked.length, expect.asked, p.host.dnsServer?.asked.join() ?? '');
  const { dkim, arc, dmarc, verdict, results, fields } = expect;
  if (!dkim && !arc && !dmarc && !verdict && !results && !fields) return;
  await p.rcpt('bob@here.test');
  const answer = await p.message(build(test, fallback));
  const said = answer.evidence ?? {};
  if (dkim) {
    const lines = (said['dkim'] as readonly string[] | undefined) ?? [];
    t.equal(lines.length, dkim.length, lines.join('; '));
    for (const [index, wanted] of dkim.entries()) t.match(lines[index], new RegExp(`^${wanted}`));
  }
  if (arc) t.match(said['arc'] ?? { result: 'none' }, arc);
  if (dmarc) t.match(said['dmarc'], dmarc, JSON.stringify(said['dmarc']));
  if (verdict) t.equal(answer.kind, verdict, answer.why ?? '');
  if (verdict && expect.reply) t.equal(`${answer.reply?.code} ${answer.reply?.enhanced}`, expect.reply);
  const written = await resultFields(answer.outcome as never);
  for (const line of results ?? []) t.match(written[0], line);
  if (fields)
    t.same(
      written.map(value => value.split(/[\s;]/, 1)[0]),
      fields,
    );
}

for (const standard of readdirSync(sourcePath('test/cases/mail-auth')))
  t.test(standard, async t => {
    for (const folder of readdirSync(sourcePath(`test/cases/mail-auth/${standard}`)))
      await t.test(folder, async t => {
        const text = fill(readFileSync(sourcePath(`test/cases/mail-auth/${standard}/${folder}/case.yaml`), 'utf8'));
        const read = parse(text) as Case;
        t.match(read.clause, /^RFC \d+ §/, 'names its clause');
        for (const test of read.tests) {
          const options = { ...read.options, ...test.options };
          const p = await plugin(mailAuth, options, { dns: served(read.zone), relayNetworks: ['10.0.0.0/8'] });
          if (read.fault) p.host.dnsServer?.setFault(read.fault);
          await t.test(test.name ?? `${test.from} ${JSON.stringify(test.expect)}`, t => run(t, p, test, read.message));
          await p.close();
        }
      });
  });

t.test('a sampled policy hits its share of the messages', async t => {
  const dns = { '_dmarc.example.test': { TXT: ['v=DMARC1; p=reject; pct=25'] } };
  const p = await plugin(mailAuth, { spf: { helo: 'off' } }, { dns });
  t.teardown(() => p.close());
  let refused = 0;
  for (let count = 0; count < 200; count++) {
    await p.mail('x@nowhere.test');
    await p.rcpt('bob@here.test');
    if ((await p.message(plain)).kind === 'reject') refused++;
  }
  t.ok(refused > 25 && refused < 75, `${refused} of 200`);
});
