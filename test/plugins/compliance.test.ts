// Every built-in plugin, by the table: a new one cannot escape. Its README lists its options, and its example runs.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { entryTerms, readChain } from '../../core/config/chain-entry.ts';
import { documentKeys } from '../../core/config/render-docs.ts';
import { z } from '../../core/config/schema.ts';
import type { Plugin } from '../../core/plugin/contract.ts';
import { plugins } from '../../plugins/index.ts';
import { mailAuth } from '../../plugins/mail-auth/index.ts';
import { makeKey } from '../harness/forge-signature.ts';
import { plugin } from '../harness/plugin.ts';
import { sourcePath } from '../harness/root.ts';
import { compliance, type Sample } from './compliance.ts';

const pem = (kind: 'rsa' | 'ed25519') => makeKey(kind).privateKey.export({ type: 'pkcs8', format: 'pem' });
const keyFolder = t.testdir({
  'srs.secret': 'a secret\n',
  dkim: { 'example.org.2026a.pem': pem('rsa'), 'example.org.2026e.pem': pem('ed25519') },
});

const samples: Readonly<Record<string, Sample>> = {
  aliases: {
    options: { aliases: ['aliases'], virtual: ['virtual'] },
    setup: {
      configFolder: sourcePath('plugins/aliases/example'),
      accounts: {
        local: ['example.org', 'postern.test'],
        virtual: ['shop.example'],
        users: { 'bob@example.org': 'right' },
      },
    },
  },
  clamav: { engine: 'absent' },
  'arc-seal': {
    options: { domain: 'example.org', selector: '2026a', key: 'dkim/example.org.2026a.pem', when: 'always' },
    setup: {
      configFolder: keyFolder,
      before: [
        {
          name: 'mail-auth',
          plugin: mailAuth as Plugin<unknown>,
          options: {},
          timeoutMs: 10_000,
          onError: 'defer',
          mode: 'enforce',
        },
      ],
    },
  },
  'dkim-sign': {
    options: { keys: [{ domain: 'b.example', selector: 's', key: 'dkim/example.org.2026a.pem' }] },
    setup: { configFolder: keyFolder },
  },
  dnsbl: {
    options: {
      lists: [{ zone: 'bl.test' }, { zone: 'white.test', kind: 'allow' }, { zone: 'dom.test', kind: 'domain' }],
    },
    setup: { dns: { '2.0.0.127.bl.test': { A: ['127.0.0.2'] }, '1.100.51.198.bl.test': { A: ['127.0.0.2'] } } },
  },
  greylist: { options: { when: 'rcpt' } },
  helo: {
    options: { reject: ['unknown-host', 'own-name', 'syntax'], temperror: 'defer' },
    setup: { dns: { 'client.example': { A: ['198.51.100.1'] } } },
  },
  'rate-limit': {
    options: {
      limits: [
        { per: 'address', messages: 3, window: '1h' },
        { per: 'sender', recipients: 4, window: '1h', action: 'reject' },
        { per: 'account', messages: 1, window: '1h', action: 'hold' },
      ],
    },
  },
  'reverse-dns': {
    options: { missing: 'reject', unconfirmed: 'reject', temperror: 'defer' },
    setup: { dns: { '1.100.51.198.in-addr.arpa': { PTR: ['client.example'] } } },
  },
  uribl: {
    options: {
      lists: [
        { zone: 'dbl.test', ask: ['host'] },
        { zone: 'multi.test', ask: ['domain', 'address'] },
      ],
    },
    setup: { dns: { 'test.dbl.test': { A: ['127.0.1.2'] }, 'b.example.dbl.test': { A: ['127.0.1.2'] } } },
  },
  'mail-auth': {
    options: { spf: { fail: 'reject', permerror: 'reject', helo: 'reject' } },
    setup: {
      dns: {
        'b.example': { TXT: ['v=spf1 a:mail.b.example -all'] },
        'mail.b.example': { A: ['198.51.100.1'] },
        '_dmarc.b.example': { TXT: ['v=DMARC1; p=reject'] },
      },
    },
  },
  'example-http-policy': { options: { url: 'http://127.0.0.1:9/policy' }, engine: 'absent' },
  milter: { engine: 'absent' },
  rspamd: { engine: 'absent' },
  spamassassin: { engine: 'absent' },
  srs: {
    options: { domain: 'example.org', secrets: [{ file: 'srs.secret' }] },
    setup: { configFolder: keyFolder, accounts: { local: ['example.org'], users: { 'bob@example.org': 'right' } } },
  },
};

function optionsTable(tested: Plugin<unknown>): string {
  const rows = documentKeys(tested.options).map(({ key, type, default: preset, required, doc }) => {
    const shown = required ? '**required**' : preset === undefined ? '' : `\`${preset}\``;
    return `| \`${key}\` | ${type} | ${shown} | ${doc.replaceAll('|', '\\|')} |`;
  });
  return ['| option | type | default | what |', '|---|---|---|---|', ...rows].join('\n');
}

function updateReadme(file: string, table: string): void {
  const text = readFileSync(file, 'utf8');
  const there = /\| option \|(?:.*\n)*?(?=\n|$)/;
  writeFileSync(
    file,
    there.test(text) ? text.replace(there, () => `${table}\n`) : `${text.trimEnd()}\n\n## Options\n\n${table}\n`,
  );
}

for (const [name, tested] of Object.entries(plugins))
  t.test(name, async t => {
    t.equal(tested.name, name);
    const sample = samples[name] ?? {};
    for (const check of compliance(tested, sample))
      await t.test(check.name, async t => {
        await check.run();
        t.pass();
      });

    const file = sourcePath(`plugins/${name}/README.md`);
    const table = optionsTable(tested);
    if (process.env['POSTERN_UPDATE'] === '1') updateReadme(file, table);
    const readme = readFileSync(file, 'utf8');
    t.ok(readme.includes(table), 'README lists the options as they are: POSTERN_UPDATE=1 writes them anew');
    const example = /```yaml\n(.*?)```/s.exec(readme)?.[1] ?? '';
    const { entries, problems } = readChain((parse(example) as { chain: never }).chain);
    t.same(problems, []);
    const [entry] = entries.filter(candidate => candidate.plugin === name);
    const p = await plugin(tested, entry?.options ?? { missing: true }, sample.setup);
    await p.connect();
    await p.close();
  });

const forgotten: NodeJS.Timeout[] = [];
/** For each check a plugin that it must find fault with. */
const offenders: Readonly<Record<string, Partial<Plugin<unknown>>>> = {
  'has a name, a sentence': { options: z.strictObject({ a: z.number().default(1) }) },
  'has valid defaults': { options: z.unknown().transform(value => value as object) },
  'answers with legal verdicts': { setup: () => ({ mail: () => ({ kind: 'maybe' }) as never }) },
  'accepts nothing that a backend failed to say': {
    setup: (_, host) => ({
      async rcpt(_at, to) {
        await host.mailboxes.exists(to.address.text);
        return { kind: 'accept' };
      },
    }),
  },
  'ends its work within 100 ms': {
    setup: (_, host) => ({
      async connect(at) {
        // Without the signal.
        await host.dns.a(`x.${at.session.remote.address}.test`);
        return { kind: 'continue' };
      },
    }),
  },
  'can be closed twice': {
    setup: () => {
      forgotten.push(setInterval(() => {}, 60_000));
      return {};
    },
  },
};

t.test('each check finds its offender', async t => {
  const honest: Plugin<unknown> = {
    name: 'honest',
    doc: 'Does nothing.',
    options: z.strictObject({}),
    setup: () => ({}),
  };
  for (const [offence, part] of Object.entries(offenders)) {
    const failed: string[] = [];
    for (const check of compliance({ ...honest, ...part }))
      await check.run().catch(() => failed.push(check.name.slice(0, offence.length)));
    t.ok(failed.includes(offence), `${offence}: found by ${failed.join()}`);
  }
  for (const timer of forgotten) clearInterval(timer);
});

t.test('no option has the name of a key that belongs to the chain entry', async t => {
  const taken = Object.keys(entryTerms.shape);
  for (const [name, { options }] of Object.entries(plugins)) {
    const keys = documentKeys(options).map(({ key }) => key);
    t.same(
      keys.filter(key => taken.includes(key)),
      [],
      name,
    );
  }
});
