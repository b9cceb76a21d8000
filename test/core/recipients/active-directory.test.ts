// What only a domain controller answers: attributes in ranges, deleted objects. All else is in `peers/recipients-ldap`.
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { type RecipientDirectory, showDeletedControl } from '../../../core/recipients/directory.ts';
import { recipientMigrations } from '../../../core/recipients/directory-store.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { openTestDirectory } from '../../harness/directory.ts';
import { type FakeEntry, type FakeLdap, startFakeLdap } from '../../harness/fake-ldap.ts';
import { address, never } from '../relay/peers.ts';

const context = 'DC=corp,DC=test';
const numbers = { usn: 100 };

/** An object whose number is the highest so far. */
const object = (cn: string, proxyAddresses: readonly string[], place = `CN=Users,${context}`): FakeEntry => ({
  dn: `CN=${cn},${place}`,
  attributes: {
    objectGUID: [Buffer.from(cn.padEnd(16, '.'))],
    uSNChanged: [String(++numbers.usn)],
    ...(proxyAddresses.length > 0 ? { proxyAddresses } : {}),
  },
});
/** What is left of it: [MS-ADTS] 3.1.1.5.5.1. */
const tombstone = (cn: string): FakeEntry => {
  const { attributes } = object(cn, []);
  return {
    dn: `CN=${cn}\\0ADEL:0,CN=Deleted Objects,${context}`,
    attributes: { ...attributes, isDeleted: ['TRUE'] },
    deleted: true,
  };
};
const rootDse = (controls: readonly string[] = [showDeletedControl]): FakeEntry => ({
  dn: '',
  attributes: {
    highestCommittedUSN: [String(numbers.usn)],
    defaultNamingContext: [context],
    namingContexts: ['CN=Configuration,DC=corp,DC=test', context],
    dsServiceName: ['CN=NTDS'],
    supportedControl: controls,
  },
});
const settings: FakeEntry = { dn: 'CN=NTDS', attributes: { invocationId: [Buffer.alloc(16, 7)] } };
const container: FakeEntry = {
  dn: `CN=Deleted Objects,${context}`,
  attributes: { isDeleted: ['TRUE'], uSNChanged: ['1'] },
  deleted: true,
};
const addresses = (count: number, name = 'n'): readonly string[] =>
  Array.from({ length: count }, (_, n) => `smtp:${name}${n}@example.org`);

interface Setting {
  readonly server: FakeLdap;
  readonly corp: RecipientDirectory;
  /** Names of what the log warned of. */
  readonly warnings: string[];
  asked(text: string): Promise<string>;
  /** Objects beside the root entry and the container. */
  holds(entries: readonly FakeEntry[], controls?: readonly string[]): void;
}

async function setting(t: Test, base?: string): Promise<Setting> {
  const server = await startFakeLdap();
  t.teardown(() => server.close());
  const state = await openSqliteState(path.join(t.testdir(), 'state.db'));
  t.teardown(() => state.close());
  await state.migrate('recipients', recipientMigrations);
  const warnings: string[] = [];
  const log = pino(
    { level: 'warn' },
    { write: (line: string) => void warnings.push((JSON.parse(line) as { msg: string }).msg) },
  );
  const ldap = { url: server.url, startTls: false, timeoutMs: 10_000, pageSize: 2 };
  const corp = await openTestDirectory(state, ldap, { base, log });
  t.teardown(() => corp.close());
  return {
    server,
    corp,
    warnings,
    asked: async text => (await corp.verify(address(text), never().signal)).kind,
    holds(entries, controls) {
      server.entries = [rootDse(controls), settings, container, ...entries];
    },
  };
}

t.test(
  'more values than the server gives at once: whole reads and changes, several such objects in one page',
  async t => {
    const { server, corp, asked, holds } = await setting(t);
    server.maxValues = 100;
    const small = [object('ann', ['SMTP:ann@example.org']), object('exact', addresses(100, 'e'))];
    holds([object('big', addresses(350)), object('other', addresses(200, 'o')), ...small]);
    t.match(await corp.sync(), { kind: 'full', addresses: 651 });
    for (const name of ['n0', 'n99', 'n100', 'n349', 'o199', 'e99', 'ann'])
      t.equal(await asked(`${name}@example.org`), 'found', name);
    t.equal(await asked('n350@example.org'), 'none');
    const pieces = server.asked.filter(each => /;range=/.test(each)).map(each => each.replace(/^.*;/, ''));
    t.same(pieces, ['range=100-*', 'range=200-*', 'range=300-*', 'range=100-*']);

    holds([object('big', addresses(401)), object('other', addresses(200, 'o')), ...small]);
    t.match(await corp.sync(), { kind: 'delta', addresses: 702 });
    t.equal(await asked('n400@example.org'), 'found');
    t.ok(server.asked.includes(`CN=big,CN=Users,${context} base proxyAddresses;range=400-*`));
  },
);

t.test('a server that contradicts itself or comes to no end is an error, and the copy stays', async t => {
  const { server, corp, asked, holds } = await setting(t);
  server.maxValues = 10;
  holds([object('big', addresses(25))]);
  await corp.sync();
  const lies: Readonly<Record<string, FakeLdap['piece']>> = {
    'the same piece again': (name, _, values) => [`${name};range=0-9`, values.slice(0, 10)],
    'nothing after the first': (name, low, values) =>
      low === 0 ? [`${name};range=0-9`, values.slice(0, 10)] : undefined,
    'all without a range': (name, low, values) =>
      low === 0 ? [`${name};range=0-9`, values.slice(0, 10)] : [name, values],
    'a gap': (name, low, values) => [`${name};range=${low}-${low + 9}`, values.slice(low, low + 9)],
    'it begins later': (name, low, values) => [`${name};range=${low + 1}-*`, values],
    'an empty end': (name, low, values) =>
      low === 0 ? [`${name};range=0-9`, values.slice(0, 10)] : [`${name};range=${low}-*`, []],
    backwards: (name, low, values) => [`${name};range=${low}-0`, low === 0 ? values.slice(0, 1) : values],
    'no end': (name, low) => [`${name};range=${low}-${low}`, [`smtp:x${low}@example.org`]],
  };
  for (const [what, lie] of Object.entries(lies)) {
    holds([object('big', addresses(30))]);
    server.piece = lie;
    for (const whole of [true, false])
      await t.rejects(corp.sync({ whole }), /proxyAddresses/i, `${what}, ${whole ? 'whole read' : 'changes'}`);
    t.equal(await asked('n24@example.org'), 'found', what);
    t.equal(await asked('n25@example.org'), 'none', what);
  }
  server.piece = undefined;
  t.match(await corp.sync(), { kind: 'delta', addresses: 30 });
});

t.test('an empty page is not the end, unless nothing more is promised', async t => {
  const { server, corp, asked, holds } = await setting(t);
  const people = (count: number) => addresses(count).map((each, n) => object(`p${n}`, [each]));
  for (const count of [4, 5]) {
    holds(people(count));
    for (const emptyPages of [false, true]) {
      server.emptyPages = emptyPages;
      t.match(await corp.sync({ whole: true }), { addresses: count }, `${count} objects, empty pages: ${emptyPages}`);
    }
  }
  server.emptyPages = 'endless';
  await t.rejects(corp.sync({ whole: true }), /promises more/);
  t.equal(await asked('n4@example.org'), 'found');
});

t.test('a deleted object is gone after the next read of the changes, wherever the base is', async t => {
  for (const base of [undefined, `CN=Users, ${context.toLowerCase()}`])
    await t.test(base ?? 'default base', async t => {
      const { corp, asked, holds, warnings } = await setting(t, base);
      const stays = [object('ann', ['SMTP:ann@example.org'])];
      holds([...stays, object('bob', ['SMTP:bob@example.org', 'smtp:team@example.org'])]);
      t.match(await corp.sync(), { kind: 'full', addresses: 3 });
      const grave = Array.from({ length: 5 }, (_, n) => tombstone(`never-known-${n}`));
      holds([...stays, tombstone('bob'), ...grave]);
      t.match(await corp.sync(), { kind: 'delta', addresses: 1 });
      t.equal(await asked('bob@example.org'), 'none');
      t.equal(await asked('team@example.org'), 'none');
      t.equal(await asked('ann@example.org'), 'found');
      holds([...stays, object('bob', ['SMTP:bob@example.org'])]);
      t.match(await corp.sync(), { kind: 'delta', addresses: 2 }, 'taken out of the grave again');
      t.same(warnings, []);
    });
});

t.test(
  'a server that does not show deleted objects, or not to us: said once, and the whole read finds them',
  async t => {
    const cases = [
      ['the container is hidden', 'hidden', ['directory-deletions-not-shown']],
      ['insufficient rights', 50, ['directory-deletions-not-shown']],
      ['control refused', 12, ['directory-deletions-not-shown']],
      ['root entry does not list it', 0, []],
    ] as const;
    for (const [what, deleted, warned] of cases)
      await t.test(what, async t => {
        const { server, corp, asked, holds, warnings } = await setting(t);
        const controls = deleted === 0 ? ['1.2.840.113556.1.4.319'] : undefined;
        const bob = object('bob', ['SMTP:bob@example.org']);
        holds([object('ann', ['SMTP:ann@example.org']), bob], controls);
        await corp.sync();
        server.deleted = deleted;
        for (let n = 0; n < 3; n++) {
          holds([object('ann', ['SMTP:ann@example.org']), tombstone('bob')], controls);
          t.match(await corp.sync(), { kind: 'delta' });
        }
        t.equal(await asked('bob@example.org'), 'found');
        t.same(warnings, warned);
        t.match(await corp.sync({ whole: true }), { addresses: 1 });
        t.equal(await asked('bob@example.org'), 'none');
      });
  },
);

t.test('a server that is busy is asked again: no deletion is passed over', async t => {
  const { server, corp, asked, holds } = await setting(t);
  holds([object('ann', ['SMTP:ann@example.org']), object('bob', ['SMTP:bob@example.org'])]);
  await corp.sync();
  holds([object('ann', ['SMTP:ann@example.org']), tombstone('bob')]);
  server.deleted = 51;
  await t.rejects(corp.sync());
  server.deleted = 0;
  t.match(await corp.sync(), { kind: 'delta', addresses: 1 });
  t.equal(await asked('bob@example.org'), 'none');
});
