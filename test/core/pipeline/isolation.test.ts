// A plugin in a process of its own: all of its contract works there, and nothing that it does harms anybody else.
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { z } from '../../../core/config/schema.ts';
import { type Clock, systemClock } from '../../../core/lib/clock.ts';
import { readMessage } from '../../../core/mail/message.ts';
import { fileRope } from '../../../core/mail/rope.ts';
import { isolatePlugin } from '../../../core/pipeline/isolation/isolate.ts';
import { loadChain } from '../../../core/pipeline/load-chain.ts';
import { definePlugin } from '../../../core/plugin/define.ts';
import { transactionResult } from '../../../core/plugin/results.ts';
import { pass } from '../../../core/plugin/verdicts.ts';
import { heldClock } from '../../harness/held-clock.ts';
import { type PluginSetup, plugin } from '../../harness/plugin.ts';
import { testHost } from '../../harness/plugin-host.ts';
import { root } from '../../harness/root.ts';
import { parseAddress } from '../../harness/test-message.ts';

const api = pathToFileURL(path.join(root, 'build/core/plugin/index.js')).href;
const mebibyte = 1024 ** 2;

/** Writes a module and drives it isolated, as the chain would. `hooks`: body of `setup`. */
async function isolated(
  t: Test,
  hooks: string,
  options: {
    readonly head?: string;
    readonly setup?: PluginSetup;
    readonly given?: object;
    readonly memory?: number;
    /** Of the process: when it is started again. */
    readonly clock?: Clock;
  } = {},
) {
  const file = path.join(t.testdir(), 'isolated.mjs');
  writeFileSync(
    file,
    `import * as api from '${api}';
    ${options.head ?? ''}
    const seen = api.transactionResult('before.seen');
    const found = api.transactionResult('isolated.found');
    const greeted = api.sessionResult('isolated.greeted');
    export const plugin = api.definePlugin({
      name: 'isolated',
      doc: 'Test.',
      options: api.z.strictObject({ text: api.z.string().default('none').describe('x') }),
      reads: [seen],
      writes: [found, greeted],
      check: options => (options.text === 'bad' ? ['Text is bad'] : []),
      async setup(options, host) { ${hooks} },
    });`,
  );
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'info', base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const entry = {
    name: 'isolated',
    source: { spec: './isolated.mjs', module: pathToFileURL(file).href },
    options: options.given ?? {},
    timeoutMs: options.setup?.timeoutMs ?? 20_000,
    terms: { memoryBytes: options.memory ?? 128 * mebibyte },
  };
  const { plugin: facade, problems } = await isolatePlugin(entry, undefined, options.clock ?? systemClock, log);
  const before = definePlugin({
    name: 'before',
    doc: 'Test.',
    options: z.strictObject({}),
    writes: [transactionResult('before.seen')],
    setup: () => ({
      message(at) {
        at.set(transactionResult('before.seen'), { list: [1, 2], when: new Date(0) });
        return pass;
      },
    }),
  });
  const driven = async () => {
    const p = await plugin(facade, options.given ?? {}, {
      timeoutMs: 20_000,
      log,
      before: [{ name: 'before', plugin: before as never, options: {}, timeoutMs: 1000, onError: 'defer' }],
      ...options.setup,
    });
    return p;
  };
  return { facade, problems, lines, driven };
}

t.test('the whole contract crosses', { timeout: 280_000 }, async t => {
  const { driven, lines, facade } = await isolated(
    t,
    `let closed = 0;
    return {
      helo(at) {
        at.set(greeted, at.helo.toUpperCase());
        return api.pass;
      },
      async rcpt(at, to) {
        host.log.warn({ to: to.address.text }, 'asked');
        const here = await host.mailboxes.exists(to.address.text);
        const a = await host.dns.a('mail.test', at.signal);
        at.evidence({
          here, a, kind: host.mailboxes.domainKind('example.org'), relay: host.isRelayClient(at.session.remote.address),
          servers: host.dns.servers.length, file: host.resolvePath('x'), name: host.hostname, text: options.text,
          greeted: at.get(greeted),
        });
        return here.kind === 'found' ? api.accept : api.reject(api.replies?.noUser ?? { code: 550, enhanced: '5.1.1', text: 'No' }, 'none');
      },
      async message(at) {
        const parts = [...api.walkParts(await at.message.mime())].map(part => part.contentType.type + '/' + part.contentType.subtype);
        let size = 0;
        for await (const chunk of at.message.open()) size += chunk.length;
        const before = at.get(seen);
        at.set(found, { parts });
        at.log.info({ size }, 'looked');
        const id = await host.submit({ sender: null, recipients: ['p@example.org'], bytes: Buffer.from('Subject: s'), origin: 'test' });
        at.evidence({ size, same: size === at.message.size, subject: at.message.headers.get('subject')?.value, list: before.list, date: before.when instanceof Date, id, got: at.get(found) });
        return { ...api.pass, edits: [{ kind: 'add-header', name: 'X-A', value: 'b' }, { kind: 'replace-body', body: Buffer.from('new\\r\\n') }] };
      },
      status: async () => ({ calls: 1 }),
      async close() { closed++; host.log.info({ closed }, 'closed'); },
    };`,
    {
      given: { text: 'hello' },
      setup: {
        dns: { 'mail.test': { A: ['192.0.2.7'] } },
        accounts: { local: ['example.org'], users: { 'bob@example.org': 'x' } },
        relayNetworks: ['192.0.2.0/24'],
      },
    },
  );
  t.same(
    facade.writes?.map(key => key.name),
    ['isolated.found', 'isolated.greeted'],
  );
  const p = await driven();
  await p.connect();
  t.equal((await p.helo('client.example')).kind, 'continue');
  await p.mail('a@b.test');
  const asked = await p.rcpt('bob@example.org');
  t.equal(asked.kind, 'accept');
  t.match(asked.evidence, {
    here: { kind: 'found' },
    a: { kind: 'found', records: ['192.0.2.7'] },
    kind: 'local',
    relay: true,
    servers: 1,
    file: path.join(p.host.dataDir, 'x'),
    name: 'gateway.test',
    text: 'hello',
    greeted: 'CLIENT.EXAMPLE',
  });
  t.match(await p.rcpt('eve@example.org'), { kind: 'reject', reply: { code: 550 } });
  const content =
    'Subject: hi\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\nContent-Type: text/html\n\ny\n--b--\n';
  const { outcome, evidence } = await p.message(content);
  t.match(evidence, {
    same: true,
    subject: 'hi',
    list: [1, 2],
    date: true,
    id: 'q1',
    got: { parts: ['multipart/mixed', 'text/plain', 'text/html'] },
  });
  t.equal(outcome.kind, 'deliver');
  if (outcome.kind === 'deliver') {
    t.equal(outcome.message.headers.get('X-A')?.value, 'b');
    t.match((await outcome.message.bytes()).toString(), /\r\n\r\nnew\r\n$/);
  }
  t.equal(p.host.submitted[0]?.bytes.toString(), 'Subject: s');

  // A large message lies in a file, which the plugin's process reads itself.
  const file = path.join(p.host.dataDir, 'large.eml');
  writeFileSync(file, `Subject: large\r\n\r\n${'x'.repeat(8 * mebibyte)}\r\n`);
  const large = await readMessage(fileRope(file, 0, readFileSync(file).length));
  t.match((await p.message(large)).evidence, { same: true, subject: 'large' });

  t.match(await p.status(), { isolated: 'running', calls: 1 });
  await p.close();
  const said = lines.map(line => line['msg']);
  for (const msg of ['asked', 'looked', 'closed']) t.ok(said.includes(msg), msg);
  t.match(
    lines.find(({ msg }) => msg === 'looked'),
    { session: /./, id: /^q/, hook: 'message', level: 30 },
  );
});

t.test('options, checks and what cannot be loaded', { timeout: 280_000 }, async t => {
  const wrong = await isolated(t, 'return {};', { given: { txt: 'x' } });
  t.match(wrong.problems, [{ message: /Unknown key 'txt'.*text/, path: ['txt'] }]);
  const checked = await isolated(t, 'return {};', { given: { text: 'bad' } });
  const host = { resolvePath: (name: string) => name, checkRules: async () => [] };
  t.same(await checked.facade.check?.({}, host), ['Text is bad']);
  await t.rejects(isolated(t, '', { head: 'throw new Error("at load");' }), /Could not load plugin .*at load/);
  await t.rejects(isolated(t, '', { head: 'process.exit(3);' }), /Could not load plugin .*process\.exit\(3\)/);
  const failing = await isolated(t, 'throw new Error("no engine");');
  await t.rejects(failing.driven(), /Setup failed: no engine/);
});

/** What a plugin may do at its worst, in the `mail` hook for one sender; others go on. */
const crimes: Readonly<Record<string, { readonly code: string; readonly why: RegExp }>> = {
  'an endless loop': { code: 'for (;;);', why: /No answer within/ },
  'a 2 GB array': { code: 'return new Array(2.5e8).fill(0).length;', why: /memory|No answer within/ },
  'objects until the heap is full': { code: 'const a = []; for (;;) a.push({ a });', why: /memory|No answer within/ },
  'a 2 GB buffer': { code: 'Buffer.alloc(2e9, 1); for (;;);', why: /memory|No answer within/ },
  'process.exit': { code: 'process.exit(0);', why: /process\.exit\(0\)/ },
  'an unhandled rejection': {
    code: 'Promise.reject(new Error("nobody")); await new Promise(() => {});',
    why: /Uncaught Error: nobody/,
  },
  'an uncaught exception': {
    code: 'setImmediate(() => { throw new Error("later"); }); await new Promise(() => {});',
    why: /Uncaught Error: later/,
  },
  'a signal to itself': { code: 'process.kill(process.pid, "SIGKILL"); await new Promise(() => {});', why: /SIGKILL/ },
  'a promise that never settles': { code: 'await new Promise(() => {});', why: /No answer within/ },
  'log lines without end': { code: 'for (;;) host.log.info("again");', why: /No answer within/ },
  'noise on every line to the gateway': {
    code: "for (let fd = 3; fd < 6; fd++) (await import('node:fs')).writeSync(fd, 'null\\n{\\n'); await new Promise(() => {});",
    why: /Sent what is no message|Asked what cannot be answered/,
  },
  'noise on the line of its first thread': {
    code: "(await import('node:fs')).writeSync(5, 'null\\n{\\n'); await new Promise(() => {});",
    why: /Sent what is no message/,
  },
  'an answer that cannot be copied': { code: 'return () => {};', why: /could not be cloned/ },
};

for (const [crime, { code, why }] of Object.entries(crimes))
  t.test(`${crime} costs its own verdict`, { timeout: 280_000 }, async t => {
    const { driven, lines } = await isolated(
      t,
      `return { async mail(at) { if (at.envelope.sender?.local === 'evil') { ${code} } return api.pass; } };`,
      { setup: { timeoutMs: String(why) === '/No answer within/' ? 10_000 : 60_000 } },
    );
    const p = await driven();
    t.teardown(() => p.close());
    t.equal((await p.mail('good@b.test')).kind, 'continue');
    const bad = await p.mail('evil@b.test');
    t.equal(bad.kind, 'error');
    t.match(bad.why, why);
    t.match(bad.outcome, { kind: 'refused', reply: { code: 451 } });
    // The first end is repaired at once: the next call waits for the new process, or for the kill of the old one.
    let next = await p.mail('good@b.test');
    for (let tries = 0; next.kind === 'error' && tries < 5; tries++) {
      t.match(next.why, /Isolated plugin ended|No answer/);
      next = await p.mail('good@b.test');
    }
    t.equal(next.kind, 'continue', next.why ?? '');
    const ended = lines.filter(({ msg }) => msg === 'Isolated plugin ended').length;
    // One whose thread still answers is ended a moment later.
    const expected = crime.includes('copied') ? [0] : crime.includes('settles') ? [0, 1] : [1];
    t.ok(expected.includes(ended), `replaced ${ended} times`);
    t.ok(lines.length < 3_000, 'the log is not flooded');
  });

t.test(
  'a process that keeps ending is left alone for a while',
  {
    timeout: 280_000,
  },
  async t => {
    const { facade } = await isolated(
      t,
      `return { async mail(at) {
      if (at.envelope.sender?.local === 'evil') process.exit(1);
      if (at.envelope.sender?.local === 'slow') await new Promise(() => {});
      return api.pass;
    } };`,
      { clock: heldClock() },
    );
    const two = await plugin({ ...facade, reads: [] }, {}, { timeoutMs: 20_000, onError: 'continue' });
    t.teardown(() => two.close());
    const first = await two.mail('evil@b.test');
    t.match(first, { kind: 'error', outcome: { kind: 'ok' } }, 'onError: continue');
    t.equal((await two.mail('good@b.test')).kind, 'continue', 'replaced at once');
    t.equal((await two.mail('evil@b.test')).kind, 'error');
    const left = await two.mail('good@b.test');
    t.match(left, { kind: 'error', why: /starts again in \d+ s/ }, 'not again at once');
    t.match(await two.status(), { isolated: 'not running', restarts: 2, lastEnd: /process\.exit\(1\)/ });
  },
);

t.test(
  'a gateway without file descriptors left stays, and starts the plugin again later',
  { timeout: 280_000 },
  async t => {
    const folder = t.testdir();
    writeFileSync(
      path.join(folder, 'plugin.mjs'),
      `import * as api from '${api}';
    export const plugin = api.definePlugin({
      name: 'ends', doc: 'Test.', options: api.z.strictObject({}),
      setup: () => ({ async status() { setTimeout(() => process.exit(1)); return {}; } }),
    });`,
    );
    writeFileSync(
      path.join(folder, 'gateway.mjs'),
      `import { openSync } from 'node:fs';
    import { pino } from '${pathToFileURL(path.join(root, 'node_modules/pino/pino.js')).href}';
    import { systemClock } from '${pathToFileURL(path.join(root, 'build/core/lib/clock.js')).href}';
    import { isolatePlugin } from '${pathToFileURL(path.join(root, 'build/core/pipeline/isolation/isolate.js')).href}';
    const source = { spec: 'x', module: new URL('plugin.mjs', import.meta.url).href };
    const entry = { name: 'x', source, options: {}, timeoutMs: 60_000, terms: { memoryBytes: ${128 * mebibyte} } };
    const log = pino.default({}, { write(line) {
      if (line.includes('No file descriptors')) process.stdout.write('stays', () => process.exit(0));
    } });
    const { plugin } = await isolatePlugin(entry, undefined, systemClock, log);
    const host = { dns: {}, mailboxes: {}, rules: {}, memory: {}, log };
    const instance = await plugin.setup({}, host);
    try { for (;;) openSync('/dev/null'); } catch {}
    await instance.status();
    setTimeout(() => {}, 240_000);`,
    );
    // A process may have few of them.
    const script = 'ulimit -n 512; exec "$0" "$1"';
    const { stdout } = await promisify(execFile)('sh', [
      '-c',
      script,
      process.execPath,
      path.join(folder, 'gateway.mjs'),
    ]);
    t.equal(stdout, 'stays');
  },
);

t.test('calls of other sessions end with the process', { timeout: 280_000 }, async t => {
  const { facade } = await isolated(
    t,
    `return { async mail(at) {
      if (at.envelope.sender?.local === 'evil') process.exit(1);
      host.log.info('waits');
      await new Promise(() => {});
    } };`,
  );
  const log = pino({ level: 'silent' });
  const host = await testHost({});
  t.teardown(() => host.close());
  const chain = await loadChain(
    [{ name: 'isolated', plugin: { ...facade, reads: [] }, options: {}, timeoutMs: 60_000, onError: 'continue' }],
    { clock: systemClock, log, hostFor: () => ({ ...host, log: pino({}, { write: onLine }) }) },
  );
  t.teardown(() => chain.close());
  const session = (id: string) =>
    chain.openSession({
      id,
      listener: 'smtp',
      role: 'smtp',
      local: { address: '127.0.0.1', port: 25 },
      remote: { address: '192.0.2.1', port: 4711 },
    });
  const envelope = (sender: string) => ({
    sender: parseAddress(sender),
    recipients: [],
    smtputf8: false,
    requireTls: false,
  });
  let waits = (): void => {};
  function onLine(line: string): void {
    if (line.includes('waits')) waits();
  }
  const [one, two] = [session('one'), session('two')];
  const waiting = new Promise<void>(resolve => {
    waits = resolve;
  });
  const slow = one.mail('q1', envelope('slow@b.test'));
  await waiting;
  t.match(await two.mail('q2', envelope('evil@b.test')), { kind: 'ok' });
  t.match(await slow, { kind: 'ok' }, 'by onError');
  for (const s of [one, two]) {
    t.match(s.steps(), [{ verdict: 'error', why: /process\.exit\(1\)/ }]);
    s.end();
  }
});
