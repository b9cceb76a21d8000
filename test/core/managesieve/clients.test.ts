import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { parseLine, stringOut } from '../../../core/managesieve/wire.ts';
import { openScriptStore } from '../../../core/sieve/script-store.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { State } from '../../../core/state/state.ts';
import { requireEngines } from '../../harness/engine.ts';
import { fc } from '../../harness/fuzz.ts';
import { type FixtureOptions, type ManageSieveFixture, startManageSieve } from './managesieve-fixture.ts';

async function start(t: Test, options?: FixtureOptions): Promise<ManageSieveFixture> {
  const fixture = await startManageSieve(options);
  t.teardown(() => fixture.close());
  return fixture;
}

/** sieve-connect asks for the password on a terminal unless it comes by file descriptor. */
function sieveConnect(
  fixture: ManageSieveFixture,
  ...args: readonly string[]
): Promise<{ readonly code: number; readonly output: string }> {
  const common = [
    '--server',
    'localhost',
    '--port',
    String(fixture.port),
    '--user',
    'alice@example.org',
    '--passwordfd',
    '0',
    '--notlsverify',
  ];
  return new Promise(resolve => {
    const child = execFile('sieve-connect', [...common, ...args], { timeout: 120_000 }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error ? -1 : 0, output: `${stdout}${stderr}` }),
    );
    child.stdin?.end('secret\n');
  });
}

t.test('sieve-connect over TLS: upload, check, activate, list, download, delete', async t => {
  if (!requireEngines(t, 'ManageSieve with sieve-connect', 'sieve-connect')) return;
  const fixture = await start(t, { withTls: true, listener: { allowPlaintextAuth: false }, realCompiler: true });
  const good = path.join(fixture.folder, 'good.sieve');
  const bad = path.join(fixture.folder, 'bad.sieve');
  const back = path.join(fixture.folder, 'back.sieve');
  const text = 'require "fileinto";\nif true { fileinto "Grüße"; }\n';
  writeFileSync(good, text);
  writeFileSync(bad, 'keep;\nkeeep;\nfileinto "x";\n');
  t.match(await sieveConnect(fixture, '--localsieve', good, '--remotesieve', 'main', '--upload'), { code: 0 });
  t.match(await sieveConnect(fixture, '--localsieve', bad, '--remotesieve', 'bad', '--upload'), {
    output: /line 2:1: error: .*keeep.*line 3:1: error: .*fileinto/s,
  });
  t.match(await sieveConnect(fixture, '--localsieve', bad, '--checkscript'), { output: /line 2:1/ });
  t.match(await sieveConnect(fixture, '--localsieve', good, '--checkscript'), { code: 0 });
  t.match(await sieveConnect(fixture, '--remotesieve', 'main', '--activate'), { code: 0 });
  t.match(await sieveConnect(fixture, '--list'), { code: 0, output: /"main" ACTIVE/ });
  t.match(await sieveConnect(fixture, '--remotesieve', 'main', '--localsieve', back, '--download'), { code: 0 });
  t.equal(readFileSync(back, 'utf8').replace(/\r\n/g, '\n'), text);
  t.match(await sieveConnect(fixture, '--remotesieve', 'main', '--delete'), { output: /active/i });
  t.match(await sieveConnect(fixture, '--deactivate'), { code: 0 });
  t.match(await sieveConnect(fixture, '--remotesieve', 'main', '--delete'), { code: 0 });
  t.same(await fixture.scripts.list('alice@example.org'), []);
  t.same(fixture.complaints, []);
});

t.test('one script of a user is active, whoever changes what at the same time; caches follow', async t => {
  const fixture = await start(t, { maxScripts: 5 });
  const { scripts } = fixture;
  const user = 'bob@example.org';
  const puts = await Promise.allSettled(
    Array.from({ length: 12 }, (_, n) => scripts.put(user, `s${n}`, Buffer.from('keep;'))),
  );
  t.equal(puts.filter(({ status }) => status === 'fulfilled').length, 5, 'the quota holds under concurrency');
  const names = (await scripts.list(user)).map(({ name }) => name);
  await Promise.all([...names, ...names].map(name => scripts.activate(user, name)));
  t.equal((await scripts.list(user)).filter(({ active }) => active).length, 1);
  const before = await scripts.active(user);
  await scripts.put(user, before?.name ?? '', Buffer.from('discard;'));
  const after = await scripts.active(user);
  t.equal(after?.content.toString(), 'discard;');
  t.not(after?.hash, before?.hash);
  await t.rejects(scripts.put(user, before?.name ?? '', Buffer.from('nonsense;')), {
    code: 'invalid',
    diagnostics: [{ severity: 'error', line: 1 }],
  });
  t.equal((await scripts.active(user))?.content.toString(), 'discard;', 'a failed put changes nothing');
  await scripts.rename(user, before?.name ?? '', 'other');
  t.equal((await scripts.active(user))?.name, 'other');
  await scripts.activate(user, undefined);
  t.equal(await scripts.active(user), undefined);
});

t.test('the grammar: what is sent as a string comes back, nothing crashes it', async () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), value => {
      const wire = stringOut(value);
      const parsed = parseLine(wire);
      if (parsed.kind === 'bad') return wire[0] === 0x7b;
      const [word] = parsed.words;
      return word?.kind === 'string' && word.bytes.toString() === Buffer.from(value).toString();
    }),
  );
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(fc.constantFrom('"', '\\', '{', '}', '+', ' ', '1', 'a', '(', '{3+}'), fc.string({ maxLength: 2 })),
      ),
      parts => {
        const parsed = parseLine(Buffer.from(parts.join('')));
        return parsed.kind === 'bad' || parsed.words.length >= 0;
      },
    ),
  );
});

t.test('random commands: answers or an end, and no error in the log', async t => {
  const fixture = await start(t, { limits: { maxBadCommands: 1000, maxCommandsBeforeLogin: 1000, maxFailures: 1000 } });
  const word = fc.constantFrom(
    'NOOP',
    'PUTSCRIPT',
    'GETSCRIPT',
    'SETACTIVE',
    'LISTSCRIPTS',
    'HAVESPACE',
    'AUTHENTICATE',
    'RENAMESCRIPT',
    'DELETESCRIPT',
    'CHECKSCRIPT',
    '"a"',
    '"b"',
    '""',
    '"keep;"',
    '"x',
    '{3+}\r\nabc',
    '{0+}\r\n',
    '99',
    '4294967296',
    'UNAUTHENTICATE',
    '"PLAIN"',
    '*',
    '(',
    '\0',
    '\xff',
  );
  const line = fc.array(word, { maxLength: 4 }).map(words => words.join(' '));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 12 }), fc.boolean(), async (lines, loggedIn) => {
      const socket = connect(fixture.port, '127.0.0.1');
      let heard = '';
      socket.on('data', chunk => {
        heard += chunk.toString('latin1');
      });
      const closed = new Promise(resolve => socket.once('close', resolve));
      const login = loggedIn ? ['AUTHENTICATE "PLAIN" "AGFsaWNlAHNlY3JldA=="'] : [];
      socket.write(
        Buffer.from([...login, ...lines, '"*"', 'LOGOUT', 'LOGOUT'].map(one => `${one}\r\n`).join(''), 'latin1'),
      );
      await closed;
      return /\r\n(OK|BYE) .*\r\n$/.test(heard);
    }),
    { numRuns: 40 },
  );
  t.same(fixture.complaints, []);
});

t.test('an active script that was read while another took its place is not kept', async t => {
  const real = await openSqliteState(path.join(t.testdir(), 'state.db'));
  t.teardown(() => real.close());
  let hold: Promise<void> | undefined;
  let read = (): void => undefined;
  const state: State = {
    ...real,
    migrate: (...given) => real.migrate(...given),
    write: statements => real.write(statements),
    async query(...given) {
      const rows = await real.query(...given);
      read();
      await hold;
      return rows;
    },
  };
  const scripts = await openScriptStore({ state, clock: systemClock, check: () => [], activeCacheMs: 60_000 });
  await scripts.put('ann', 'one', Buffer.from('keep;'));
  await scripts.put('ann', 'two', Buffer.from('discard;'));
  await scripts.activate('ann', 'one');
  let go = (): void => undefined;
  hold = new Promise(resolve => {
    go = resolve;
  });
  const wasRead = new Promise<void>(resolve => {
    read = resolve;
  });
  const reading = scripts.active('ann');
  await wasRead;
  await scripts.activate('ann', 'two');
  go();
  await reading;
  t.equal((await scripts.active('ann'))?.name, 'two');
});
