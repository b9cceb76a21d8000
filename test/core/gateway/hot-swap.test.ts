// A reload while sessions are open: what changed is loaded beside the old, what did not change lives on.

import { EventEmitter, once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { loadConfig } from '../../../core/config/load.ts';
import { askGateway } from '../../../core/control/client.ts';
import { controlSocketPath } from '../../../core/control/protocol.ts';
import { startControlServer } from '../../../core/control/server.ts';
import { startTestGateway } from '../../harness/gateway.ts';
import { until } from '../../harness/gateway-files.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

/** Says in its refusal which module, which options and which instance of the plugin answered. */
const counter = (ending: 'mjs' | 'cjs'): string => `
${ending === 'mjs' ? `import { word } from './word.mjs';` : `const { word } = require('./word.cjs');`}
import('node:fs');
const text = value => ({ code: 550, enhanced: '5.7.1', text: value });
const plugin = {
  name: 'counter',
  doc: 'Counts.',
  options: { safeParse: data => ({ success: true, data }) },
  async setup(options, host) {
    if (options.file !== undefined) await import('node:fs').then(fs => fs.readFileSync(host.resolvePath(options.file)));
    if (options.waits) await new Promise(resolve => process.once('counter-go', resolve));
    let calls = 0;
    return {
      mail: () => ({ kind: 'reject', reply: text([word, options.text, ++calls].join(' ')), why: 'test' }),
      async close() {
        if (options.lingers) await new Promise(resolve => setTimeout(resolve, 1000));
        host.log.info({ closed: [word, options.text, calls].join(' ') }, 'closed');
      },
    };
  },
};
${ending === 'mjs' ? 'export { plugin };' : 'exports.plugin = plugin;'}
`;
const word = (ending: 'mjs' | 'cjs', value: string): string =>
  ending === 'mjs' ? `export const word = '${value}';` : `exports.word = '${value}';`;

async function startWith(t: Test, ending: 'mjs' | 'cjs') {
  const folder = t.testdir({
    [`counter.${ending}`]: counter(ending),
    [`word.${ending}`]: word(ending, 'old'),
    'list.txt': 'a',
  });
  const lines = new EventEmitter();
  const log = pino(
    { level: 'info', base: null },
    {
      write(line: string) {
        const { msg, closed } = JSON.parse(line) as { readonly msg: string; readonly closed?: string };
        if (msg === 'closed' && closed !== undefined) lines.emit(closed);
      },
    },
  );
  const yaml = (text: string, more = '', domains = '[{ name: example.org }]', size = '10MiB'): string => `
hostname: mx.example.org
domains: ${domains}
chain:
  - limits: { messageSize: ${size} }
  - recipients
  - counter: { plugin: ./counter.${ending}, text: ${text}${more} }
`;
  const listeners = '\n  - { name: smtp, role: smtp, port: 0 }';
  const gateway = await startTestGateway({ folder, yaml: yaml('a'), log, listeners });
  t.teardown(() => gateway.stop());
  const file = path.join(folder, 'postern.yaml');
  // The port stays, or the listener would be a new one.
  const fixed = listeners.replace('port: 0', `port: ${gateway.port('smtp')}`);
  const reload = (text = yaml('a')) => {
    writeFileSync(file, `dataDir: data\n${text}\nlisteners:${fixed}\n`);
    return gateway.gateway.reload(() => loadConfig(file, folder));
  };
  await reload();
  const clients: SmtpClient[] = [];
  const open = async () => {
    const client = await SmtpClient.open(gateway.port('smtp'));
    clients.push(client);
    await client.command('EHLO client.test');
    return client;
  };
  const ask = async (client: SmtpClient) => (await client.command('MAIL FROM:<a@b.test>', /^550/)).trim().slice(10);
  const closeClients = (): void => {
    for (const client of clients) client.close();
  };
  t.teardown(closeClients);
  /** The instance closed that has this to say. */
  const closed = (what: string) => once(lines, what);
  return { folder, gateway, yaml, reload, open, ask, closed, closeClients };
}

for (const ending of ['mjs', 'cjs'] as const)
  t.test(`a changed ${ending} module, option or file`, { timeout: 280_000 }, async t => {
    const { folder, yaml, reload, open, ask, closed, closeClients } = await startWith(t, ending);
    const first = await open();
    t.equal(await ask(first), 'old a 1');
    await reload();
    const second = await open();
    t.equal(await ask(second), 'old a 2', 'unchanged: the same instance, with its counter');
    await reload(yaml('a', '', undefined, '20MiB'));
    t.equal(await ask(await open()), 'old a 3', 'another entry changed');
    await reload(yaml('a', ', timeout: 7s, onError: continue'));
    t.equal(await ask(await open()), 'old a 4', 'its terms changed, which are not the plugin’s');

    writeFileSync(path.join(folder, `word.${ending}`), word(ending, 'new'));
    await reload();
    const third = await open();
    t.equal(await ask(third), 'new a 1', 'a file that the module imports changed');
    t.equal(await ask(first), 'old a 5', 'a session in flight finishes on the old');

    writeFileSync(path.join(folder, `word.${ending}`), 'syntax error');
    await t.rejects(reload(), /Could not load plugin/);
    t.equal(await ask(await open()), 'new a 2', 'what does not load changes nothing');
    writeFileSync(path.join(folder, `word.${ending}`), word(ending, 'old'));
    await reload();
    t.equal(await ask(await open()), 'old a 1', 'back to how it was: set up anew');
    t.equal(await ask(first), 'old a 6', 'while the first one still runs');

    await reload(yaml('b'));
    t.equal(await ask(await open()), 'old b 1', 'an option changed');
    await reload(yaml('b', ', file: list.txt'));
    t.equal(await ask(await open()), 'old b 1');
    await reload(yaml('b', ', file: list.txt'));
    t.equal(await ask(await open()), 'old b 2', 'its file did not change');
    writeFileSync(path.join(folder, 'list.txt'), 'another');
    await reload(yaml('b', ', file: list.txt'));
    t.equal(await ask(await open()), 'old b 1', 'its file changed');

    const gone = closed('old a 6');
    closeClients();
    await gone;
    t.pass('closed once its last session ended');
  });

t.test('a stop waits for the reload that is under way, and none comes after it', { timeout: 280_000 }, async t => {
  const { folder, gateway, yaml, reload, closed } = await startWith(t, 'mjs');
  const gone = Promise.all([closed('old a 0'), closed('old b 0')]);
  const reloading = reload(yaml('b', ', waits: true'));
  const go: NodeJS.EventEmitter = process;
  await until(() => go.listenerCount('counter-go') > 0, 'the setup of the new one to begin');
  const stopping = gateway.stop();
  t.match(await askGateway(controlSocketPath(path.join(folder, 'data')), { command: 'status' }), { pid: process.pid });
  go.emit('counter-go');
  await Promise.all([reloading, stopping, gone]);
  await t.rejects(reload(yaml('c')), /stops/);
});

t.test('a plugin that is kept knows the new domains', { timeout: 280_000 }, async t => {
  const { gateway, yaml, reload, open, ask } = await startWith(t, 'mjs');
  for (const name of ['bob@example.org', 'bob@example.com'])
    await gateway.gateway.users.add(name, { password: 'bobs-password' });
  const rcptOnly = (domains: string) => yaml('a', ', mode: observe', domains);
  await reload(rcptOnly('[{ name: example.org }]'));
  const client = await open();
  await client.command('MAIL FROM:<a@b.test>');
  await client.command('RCPT TO:<bob@example.com>', /^550/);
  await reload(rcptOnly('[{ name: example.org }, { name: example.com }]'));
  const { chain } = await gateway.gateway.status();
  t.ok(chain.length > 0);
  const after = await open();
  await after.command('MAIL FROM:<a@b.test>');
  await after.command('RCPT TO:<bob@example.com>', /^250/);
  await reload();
  t.equal(await ask(await open()), 'old a 3', 'kept through all of it');
});

t.test('a stop waits for what a reload before it closes', { timeout: 280_000 }, async t => {
  const { gateway, yaml, reload, closed } = await startWith(t, 'mjs');
  await reload(yaml('b', ', lingers: true'));
  let over = false;
  const gone = closed('old b 0').then(() => {
    over = true;
  });
  await reload(yaml('c'));
  await gateway.stop();
  t.ok(over);
  await gone;
});

t.test('a listener that cannot be opened leaves all others as they were', { timeout: 280_000 }, async t => {
  const folder = t.testdir();
  const listener = (port: number, more = ''): string => `\n  - { name: smtp, role: smtp, port: ${port}${more} }`;
  const gateway = await startTestGateway({ folder, listeners: listener(0), log: pino({ level: 'silent' }) });
  t.teardown(() => gateway.stop());
  const own = gateway.port('smtp');
  const file = path.join(folder, 'postern.yaml');
  const yaml = readFileSync(file, 'utf8');
  const reload = (listeners: string) => {
    writeFileSync(
      file,
      yaml.replace(listener(0), () => listeners),
    );
    return gateway.gateway.reload(() => loadConfig(file, folder));
  };
  const banner = async (): Promise<string> => {
    const socket = connect(own, '127.0.0.1');
    const [greeting] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return String(greeting);
  };
  await t.rejects(reload(listener(own, ', address: 192.0.2.1')), /EADDRNOTAVAIL/, 'in the place of a free port');
  t.equal(gateway.port('smtp'), own, 'it is back on the port it had');
  await reload(listener(own));
  const taken = createServer();
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => taken.close());
  const other = listener((taken.address() as AddressInfo).port).replace('name: smtp', 'name: other');
  const first = await SmtpClient.open(own);
  t.teardown(() => first.close());

  await t.rejects(reload(other), /EADDRINUSE/, 'instead of it');
  await t.rejects(reload(listener(own, ', banner: changed') + other), /EADDRINUSE/, 'beside one that changes');
  t.match(await banner(), /^220 (?!.*changed)/);
  t.match(await first.command('NOOP'), /^250/, 'its sessions go on');
  await t.rejects(reload(listener(own, ', address: 192.0.2.1')), /EADDRNOTAVAIL/, 'in its own place');
  t.match(await banner(), /^220 (?!.*changed)/, 'it is back');
  await reload(listener(own, ', banner: changed'));
  t.match(await banner(), /^220 .*changed/);
});

t.test('a client of the control socket that hangs does not hold up a stop', async t => {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'postern-control-')), 'control.sock');
  t.teardown(() => rmSync(path.dirname(file), { recursive: true }));
  const server = await startControlServer(file, async ({ command }) => (command === 'learn' ? 1n : 'done'));
  const hung = connect({ path: file, allowHalfOpen: true });
  t.teardown(() => hung.destroy());
  hung.write('{"command":"status"}\n');
  const [answer] = await once(hung, 'data');
  t.match(String(answer), /done/);
  hung.write('{"command":"learn"}\n');
  const [refused] = await once(hung, 'data');
  t.match(String(refused), /"ok":false.*BigInt/, 'what JSON has no form for is a refusal');
  await server.close();
  t.pass('closed');
});
