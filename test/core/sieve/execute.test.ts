// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of Sieve scripts
// Carrying out: every port may fail, and the message is never lost; several scripts on one result; settings that change.

import { pino } from 'pino';
import t from 'tap';
import { openSieveMemory } from '../../../core/compose/sieve-memory.ts';
import { createRules } from '../../../core/compose/sieve-rules.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { makeMessage } from '../../../core/mail/message.ts';
import { bufferRope } from '../../../core/mail/rope.ts';
import type { WithMessage } from '../../../core/plugin/contract.ts';
import { compile, describeActions, execute, HostError, run, standardRegistry } from '../../../core/sieve/index.ts';
import { openMemory } from '../../../core/state/memory.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import type { MemoryHost, MemoryHostOptions } from '../../harness/sieve-host.ts';
import { memoryHost } from '../../harness/sieve-host.ts';

const registry = standardRegistry();

function program(source: string) {
  const compiled = compile(source, { registry });
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.diagnostics));
  return compiled.program;
}

const inbox = (host: MemoryHost): number => host.boxes.get('INBOX')?.messages.length ?? 0;

async function carryOut(
  source: string,
  port: Parameters<MemoryHost['faults']['set']>[0],
  error: Error,
  options: MemoryHostOptions = {},
) {
  const host = memoryHost(options);
  host.faults.set(port, error);
  const result = await run(program(source), host);
  return { host, result, done: await execute(result, host) };
}

t.test('a store that fails for now: try again later', async t => {
  const { done, host } = await carryOut('keep;', 'store', new HostError('temporary', 'Disk is full'));
  t.match(done, { status: 'tempfail', rescued: false });
  t.match(done.diagnostics.map(d => d.message).join(), /Disk is full.*could not be stored/);
  t.equal(inbox(host), 0);
});

t.test('an unknown error of a port counts as temporary', async t => {
  const { done } = await carryOut('keep;', 'store', new TypeError('bug'));
  t.equal(done.status, 'tempfail');
});

t.test('a redirect that fails: the message stays here', async t => {
  for (const kind of ['permanent', 'temporary'] as const) {
    const { done, host } = await carryOut('redirect "a@example.com";', 'send', new HostError(kind, 'No route'));
    t.match(done, { status: 'failure', rescued: true, outcomes: [{ state: 'failed', detail: 'No route' }] });
    t.equal(inbox(host), 1);
  }
});

t.test('a failure behind a keep stores nothing twice', async t => {
  const { done, host } = await carryOut(
    'keep; redirect "a@example.com";',
    'send',
    new HostError('permanent', 'No route'),
  );
  t.match(done, { status: 'failure', rescued: false });
  t.equal(inbox(host), 1);
});

t.test('a notification that fails is let go, a memory that fails is a warning', async t => {
  const notified = await carryOut('require "enotify"; notify "mailto:a@example.com";', 'send', new Error('down'));
  t.match(notified.done, { status: 'ok', outcomes: [{ state: 'skipped' }, { state: 'done' }] });
  t.equal(inbox(notified.host), 1);
  const host = memoryHost();
  const result = await run(program('require "duplicate"; if duplicate { discard; }'), host);
  host.faults.set('tracking', new Error('down'));
  const done = await execute(result, host);
  t.match(done, { status: 'ok', diagnostics: [{ severity: 'warning' }] });
  const away = memoryHost({ mailboxes: { Lists: {} }, message: 'To: <bob@example.com>\r\n\r\nx\r\n' });
  const replied = await run(program('require ["vacation", "fileinto"]; vacation "Away"; fileinto "Lists";'), away);
  away.faults.set('tracking', new Error('down'));
  t.match(await execute(replied, away), {
    status: 'ok',
    rescued: false,
    diagnostics: [{ severity: 'warning' }],
    outcomes: [
      { entry: { action: 'vacation' }, state: 'skipped' },
      { entry: { action: 'fileinto' }, state: 'done' },
    ],
  });
  t.equal(away.sent.length, 0, 'rather no reply than two');
});

t.test('two messages at once get one vacation reply; one that cannot be handed on is not the one', async t => {
  const state = await openSqliteState(':memory:');
  t.teardown(() => state.close());
  const tracking = (await openSieveMemory(state, await openMemory(state, systemClock))).of('bob@example.com');
  const host = memoryHost();
  const remembering = { ...host, tracking };
  const away = await run(program('require "vacation"; vacation "Away";'), remembering);
  const both = () => Promise.all([execute(away, remembering), execute(away, remembering)]);
  host.faults.set('send', new HostError('temporary', 'Queue is full'));
  t.match(await execute(away, remembering), { outcomes: [{ state: 'failed', detail: 'Queue is full' }, {}] });
  host.faults.clear();
  await both();
  t.equal(host.sent.length, 1);
  await both();
  t.equal(host.sent.length, 1);
});

t.test('a port that fails while the script is evaluated', async t => {
  const host = memoryHost();
  host.faults.set('exists', new HostError('temporary', 'Index is locked'));
  host.faults.set('lists', new Error('LDAP is down'));
  host.faults.set('scripts', new HostError('permanent', 'Name is forbidden'));
  host.faults.set('tracking', new HostError('temporary', 'No database'));
  const lookup = 'require "extlists";\nif address :list "from" ":x" { discard; }';
  t.match(await run(program(lookup), host), {
    status: 'tempfail',
    actions: [{ implicit: true }],
    diagnostics: [{ message: /LDAP/ }],
  });
  t.match(await run(program('require "include";\n\ninclude "x";'), host), {
    status: 'failure',
    diagnostics: [{ line: 3, message: 'Name is forbidden' }],
  });
  t.match(await run(program('require "duplicate";\nif duplicate { discard; }'), host), {
    status: 'tempfail',
    diagnostics: [{ line: 2, message: 'No database' }],
    actions: [{ action: 'keep', implicit: true }],
  });
});

t.test('scripts after each other on one result', async t => {
  const first = program('require ["fileinto", "copy", "editheader"]; addheader "X-Site" "1"; fileinto :copy "audit";');
  const second = program(
    'require ["fileinto", "reject"]; if exists "x-site" { fileinto "mine"; } else { reject "no"; }',
  );
  const third = program('require ["reject", "fileinto"]; fileinto "audit"; reject "late";');
  const host = memoryHost({ mailboxes: { audit: {}, mine: {} } });
  const one = await run(first, host);
  t.match(describeActions(one.actions), [{ action: 'fileinto' }, { action: 'keep', arguments: { implicit: true } }]);
  const two = await run(second, host, { after: one });
  t.match(describeActions(two.actions), [{ arguments: { mailbox: 'audit' } }, { arguments: { mailbox: 'mine' } }]);
  const three = await run(third, host, { after: two });
  t.equal(three.status, 'ok', 'a conflict with an earlier script is no error');
  t.match(three.diagnostics, [{ severity: 'warning', message: /'reject' is left out/ }]);
  t.equal(three.actions.length, 2, 'duplicates are merged across scripts');
  const broken = await run(program('require "ihave"; error "broken";'), host, { after: two });
  t.equal(broken.status, 'failure');
  t.match(
    broken.actions.map(entry => entry.action),
    ['fileinto', 'fileinto', 'keep'],
    'what earlier scripts decided stays, and the message is kept',
  );
  await execute(three, host);
  t.match(host.boxes.get('mine')?.messages[0]?.text, /^X-Site: 1/);
});

t.test('settings are read when they are needed', async t => {
  const settings = { recipientDelimiter: '+' };
  const host = { ...memoryHost({ envelope: { to: 'bob-x@example.com' } }), settings };
  const script = program('require ["subaddress", "envelope"]; if envelope :detail "to" "x" { discard; }');
  t.match((await run(script, host)).actions, [{ implicit: true }]);
  settings.recipientDelimiter = '-';
  t.match((await run(script, host)).actions, [{ action: 'discard' }]);
});

t.test('a program is shared by concurrent runs', async t => {
  const script = program(
    'require ["variables", "fileinto", "body"]; if header :matches "subject" "*" { set "s" "${1}"; } if body :contains "x" { } fileinto "${s}";',
  );
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, at) => run(script, memoryHost({ message: `Subject: s${at}\n\nbody\n` }))),
  );
  t.same(
    results.map(result => result.actions[0]?.arguments['mailbox']),
    Array.from({ length: 20 }, (_, at) => `s${at}`),
  );
});

t.test('rules that were waited for in vain do nothing any more: the message is offered again', async t => {
  let go = (): void => undefined;
  let asked = (): void => undefined;
  const held = new Promise<void>(resolve => {
    go = resolve;
  });
  const evaluating = new Promise<void>(resolve => {
    asked = resolve;
  });
  let stored = 0;
  const source = 'require ["mailbox", "fileinto"]; if mailboxexists "Lists" { fileinto "Lists"; }';
  const account = { name: 'bob@example.org', disabled: false };
  const rules = createRules({
    hostname: 'mx.example.org',
    scripts: { active: async () => ({ name: 'main', content: Buffer.from(source), hash: 'x' }) },
    memory: { of: () => ({ seen: async () => false, remember: async () => undefined }) },
    mail: {
      async user() {
        asked();
        await held;
        return { list: async () => [{ name: 'Lists', selectable: true, specialUse: [] }], release: () => undefined };
      },
      async deliver(_form: unknown, targets: readonly unknown[]) {
        stored += 1;
        return targets.map(() => ({ kind: 'stored' }));
      },
    },
    lookup: { domainKind: () => 'local', find: async () => ({ kind: 'found', value: account }) },
    forwarding: { senderFor: (sender: string) => sender },
    recipientDelimiter: '+',
    sieveUrl: undefined,
    defaultQuotaBytes: 0,
    clock: systemClock,
  } as unknown as Parameters<typeof createRules>[0]);
  const { runner } = await rules.open({
    before: [],
    after: [],
    createMailboxes: false,
    maxActions: 10,
    maxRedirects: 1,
    maxSteps: 1000,
    redirectSender: 'sender',
    vacationMinSeconds: 86_400,
    spamField: 'X-Spam-Status',
    virusField: 'X-Virus-Status',
    nextHop: { mailboxField: '', flagsField: '', junkFields: {}, junkMailboxes: [], subaddress: false },
    lists: {},
    imap: { userScripts: false, filter: false, expunge: false, mailboxes: [] },
    editMaxFieldBytes: 1000,
  });
  const message = makeMessage(bufferRope(Buffer.from('Subject: x\r\n\r\nx\r\n')));
  const to = { address: { local: 'bob', domain: 'example.org', text: 'bob@example.org' } };
  const at = (signal: AbortSignal) =>
    ({
      id: 'q1',
      message,
      envelope: { sender: null, recipients: [to], smtputf8: false, requireTls: false },
      session: { remote: { address: '192.0.2.1', port: 1 } },
      helo: 'client.test',
      signal,
      log: pino({ level: 'silent' }),
      evidence: () => undefined,
    }) as unknown as WithMessage;
  const late = new AbortController();
  const running = runner.deliver(at(late.signal), to);
  await evaluating;
  late.abort(new Error('No answer in time'));
  go();
  await running;
  t.equal(stored, 0);
  t.match(await runner.deliver(at(new AbortController().signal), to), { kind: 'accept' });
  t.equal(stored, 1);
});
