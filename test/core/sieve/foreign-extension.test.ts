// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of Sieve scripts
// An extension from outside: a command with a block, a test with the engine's match types, an action with tags, a match
// type, a namespace of variables, a modifier. It uses nothing but what `postern/sieve` exports.
import t from 'tap';
import type { ExtensionDefinition, Run } from '../../../core/sieve/index.ts';
import {
  checkScript,
  compile,
  defineExtension,
  describeActions,
  execute,
  HostError,
  run,
  standardRegistry,
  testScript,
} from '../../../core/sieve/index.ts';
import type { MemoryHost } from '../../harness/sieve-host.ts';
import { memoryHost, plainMessage } from '../../harness/sieve-host.ts';

const counters = Symbol('counters');
const countersOf = (run: Run) => run.state(counters, () => ({ laps: 0, failed: [] as string[] }));

const tickets: ExtensionDefinition = defineExtension({
  name: 'vnd.example.tickets',
  commands: [
    {
      // ticket [:priority number] [:tags list] queue: an action of its own
      name: 'ticket',
      tags: [
        { name: 'priority', type: 'number', group: 'priority' },
        { name: 'urgent', group: 'priority' },
        { name: 'labels', type: 'string-list' },
      ],
      arguments: [
        {
          name: 'queue',
          type: 'string',
          check(queue, complain) {
            if (!/^[A-Z]+$/.test(queue)) complain(`Queue '${queue}' must be in capital letters`);
          },
        },
      ],
      validate(word) {
        if ((word.number('priority') ?? 0) > 9) word.error('Priority must be at most 9', 'priority');
      },
      run: call =>
        call.act({
          action: 'ticket',
          cancelsKeep: false,
          arguments: {
            queue: call.string('queue'),
            priority: call.has('urgent') ? 9 : (call.maybeNumber('priority') ?? 1),
            labels: call.strings('labels'),
          },
        }),
    },
    {
      // repeat number { … }: a block that may be left early
      name: 'repeat',
      arguments: [{ name: 'times', type: 'number' }],
      block: true,
      async run(call) {
        for (let at = 0; at < call.number('times'); at += 1) {
          countersOf(call.run).laps += 1;
          if (!(await call.block())) break;
        }
      },
    },
    { name: 'enough', inside: ['repeat'], run: call => call.leave('repeat') },
    // The same word as a command and as a test.
    { name: 'probe', run: call => call.run.note('info', call.line, 'probed') },
    {
      name: 'swap',
      arguments: [{ name: 'message', type: 'string' }],
      run(call) {
        call.run.replaceMessage(Buffer.from(call.string('message')));
        call.run.changeEnvelope({ from: 'swapped@example.org' });
      },
    },
  ],
  tests: [
    { name: 'probe', run: call => call.run.entries.some(entry => entry.action === 'ticket') },
    {
      // word [MATCH-TYPE] [COMPARATOR] keys: words of the subject
      name: 'subject_word',
      uses: ['match-type', 'comparator'],
      arguments: [{ name: 'keys', type: 'string-list' }],
      run: call => call.matches('keys', (call.run.headers.values('subject')[0] ?? '').split(' ')),
    },
    {
      name: 'most',
      tests: 'list',
      async run(call) {
        let met = 0;
        for (let at = 0; at < call.testCount; at += 1) if (await call.test(at)) met += 1;
        return met * 2 > call.testCount;
      },
    },
  ],
  actions: [
    {
      name: 'ticket',
      meets: (entry, earlier) =>
        earlier.action !== 'ticket'
          ? 'both'
          : earlier.arguments['queue'] === entry.arguments['queue']
            ? { conflict: 'Two tickets in one queue' }
            : 'both',
      async execute(entry, execution) {
        if (entry.arguments['queue'] === 'CLOSED') throw new HostError('permanent', 'Queue is closed');
        execution.detail = `ticket in ${String(entry.arguments['queue'])}`;
      },
    },
  ],
  matchTypes: [
    {
      name: 'ends',
      match: (value, key, { comparator }) => comparator.fold(value).endsWith(comparator.fold(key as string)),
    },
  ],
  modifiers: [{ name: 'reverse', precedence: 5, apply: value => [...value].reverse().join('') }],
  namespaces: [
    {
      name: 'tickets',
      validate(path, complain) {
        if (path.join('.') !== 'laps') complain(`There is no variable 'tickets.${path.join('.')}'`);
      },
      read: (_, run) => String(countersOf(run).laps),
    },
  ],
  tags: [
    {
      name: 'ticketed',
      on: ['keep'],
      apply(entry) {
        entry.flags = ['$ticket'];
      },
    },
  ],
});

const registry = standardRegistry([tickets]);

async function actionsOf(script: string) {
  const compiled = compile(
    `require ["vnd.example.tickets", "variables", "relational", "comparator-i;ascii-numeric"];\n${script}`,
    { registry },
  );
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.diagnostics));
  const host = memoryHost();
  const result = await run(compiled.program, host);
  return { result, host, actions: describeActions(result.actions) };
}

t.test('an action with tags', async t => {
  const { actions, result, host } = await actionsOf(
    'ticket :priority 3 :labels ["a", "b"] "SALES"; ticket :urgent "SUPPORT";',
  );
  t.same(actions, [
    { action: 'ticket', arguments: { queue: 'SALES', priority: 3, labels: ['a', 'b'] } },
    { action: 'ticket', arguments: { queue: 'SUPPORT', priority: 9, labels: [] } },
    { action: 'keep', arguments: { implicit: true } },
  ]);
  const done = await execute(result, host);
  t.match(done.outcomes, [{ state: 'done', detail: 'ticket in SALES' }, {}, { state: 'done' }]);
});

t.test('its errors are as those of the built-ins', async t => {
  const errors = (script: string) =>
    checkScript(`require "vnd.example.tickets"; ${script}`, { registry }).map(d => d.message);
  t.match(errors('ticket "sales";'), ["Queue 'sales' must be in capital letters"]);
  t.match(errors('ticket :priority 10 "SALES";'), ['Priority must be at most 9']);
  t.match(errors('ticket :priority 1 :urgent "SALES";'), [/cannot be combined with ':priority'/]);
  t.match(errors('ticket;'), [/takes 1 argument \(queue\), found 0/]);
  t.match(errors('enough;'), [/must stand within the block of 'repeat'/]);
  t.match(errors('repeat 3;'), [/needs a block/]);
  t.match(errors('if most true { }'), [/tests in parentheses/]);
  t.match(errors('if subject_word :count "ge" "1" { }'), [/needs 'require "relational";'/]);
  t.match(checkScript('ticket "A";', { registry })[0]?.message, /needs 'require "vnd.example.tickets";'/);
  t.match(
    checkScript('require "vnd.example.tickets";')[0]?.message,
    /Unknown extension/,
    'not in the standard registry',
  );
});

t.test('the match types of the engine in its test, its match type in tests of the engine', async t => {
  const holds = async (test: string) => (await actionsOf(`if ${test} { discard; }`)).actions[0]?.action === 'discard';
  t.ok(await holds('subject_word "hello"'));
  t.notOk(await holds('subject_word :comparator "i;octet" "hello"'));
  t.ok(await holds('subject_word :matches "w*d"'));
  t.ok(await holds('subject_word :count "eq" :comparator "i;ascii-numeric" "2"'));
  t.ok(await holds('subject_word :ends "LLO"'));
  t.ok(await holds('header :ends "subject" "WORLD"'));
  t.notOk(await holds('header :ends :comparator "i;octet" "subject" "WORLD"'));
  t.ok(await holds('most (true, false, true)'));
  t.notOk(await holds('most (true, false)'));
});

t.test('blocks, namespaces, modifiers, words of two kinds', async t => {
  const { actions } = await actionsOf(
    'repeat 5 { if string "${tickets.laps}" "3" { enough; discard; } } if string "${tickets.laps}" "3" { ticket "LAPS"; } probe; if probe { keep :ticketed; }',
  );
  t.match(actions, [{ action: 'ticket' }, { action: 'keep', arguments: { flags: ['$ticket'] } }]);
  t.equal(actions.length, 2);
  const set = await actionsOf('set :reverse "a" "abc"; if string "${a}" "cba" { discard; }');
  t.match(set.actions, [{ action: 'discard' }]);
  t.match(
    checkScript('require ["vnd.example.tickets", "variables"]; set "a" "${tickets.x}";', { registry })[0]?.message,
    /no variable 'tickets.x'/,
  );
});

t.test('conflicts and failures', async t => {
  const twice = await actionsOf('ticket "A";\nticket "A";');
  t.equal(twice.result.status, 'failure');
  t.match(twice.result.diagnostics, [{ line: 3, message: 'Two tickets in one queue' }]);
  const closed = await actionsOf('ticket "CLOSED"; discard;');
  const done = await execute(closed.result, closed.host);
  t.match(done, { status: 'failure', rescued: true });
  t.equal(closed.host.boxes.get('INBOX')?.messages.length, 1, 'the message was stored');
});

t.test('message and envelope replaced during a run', async t => {
  const source = `require ["vnd.example.tickets", "envelope", "fileinto"];
if header "subject" "hello world" { swap text:
Subject: swapped

other body
.
; }
if allof (header "subject" "swapped", not exists "from", envelope "from" "swapped@example.org") { fileinto "swapped"; }`;
  const compiled = compile(source, { registry });
  t.ok(compiled.ok, JSON.stringify(compiled.diagnostics));
  if (!compiled.ok) return;
  const host = memoryHost({ mailboxes: { swapped: {} } });
  await execute(await run(compiled.program, host), host);
  t.match(host.boxes.get('swapped')?.messages[0]?.text, /other body/);
});

t.test('the result so far is carried out within the run, as a test driver in Sieve does', async t => {
  const driver = defineExtension({
    name: 'vnd.example.driver',
    commands: [
      {
        name: 'case',
        arguments: [{ name: 'title', type: 'string' }],
        block: true,
        async run(call) {
          call.run.resetResult();
          await call.block();
        },
      },
      { name: 'fail', arguments: [{ name: 'why', type: 'string' }], run: call => call.leave('case') },
      {
        name: 'set_message',
        arguments: [{ name: 'text', type: 'string' }],
        run: call => call.run.newMessage(Buffer.from(call.string('text'))),
      },
      {
        name: 'envelope_from',
        arguments: [{ name: 'address', type: 'string' }],
        run: call => call.run.changeEnvelope({ from: call.string('address') }),
      },
      { name: 'reset_result', run: call => call.run.resetResult() },
    ],
    tests: [
      {
        name: 'carry_out',
        async run(call) {
          return (await execute(call.run.resultSoFar(), call.run.host)).status === 'ok';
        },
      },
      {
        name: 'decided',
        uses: ['match-type', 'comparator'],
        tags: [{ name: 'number', type: 'number' }],
        arguments: [{ name: 'keys', type: 'string-list' }],
        run(call) {
          const actions = call.run.resultSoFar().actions.map(entry => entry.action);
          const number = call.maybeNumber('number');
          return call.matches('keys', number === undefined ? actions : actions.slice(number - 1, number));
        },
      },
      {
        name: 'stored',
        arguments: [{ name: 'mailbox', type: 'string' }],
        run(call) {
          const stored = (call.run.host as MemoryHost).boxes.get(call.string('mailbox'))?.messages.at(-1);
          if (stored) call.run.replaceMessage(Buffer.from(stored.text));
          return stored !== undefined;
        },
      },
    ],
  });
  const source = `require ["vnd.example.driver", "fileinto", "mailbox", "editheader", "relational", "comparator-i;ascii-numeric", "vnd.dovecot.debug"];
envelope_from "<dave@example.org>";
set_message text:
Subject: first

text
.
;
case "filed with the edit" {
  addheader "X-New" "value";
  redirect "carol@example.com";
  fileinto :create "folder";
  if not decided :count "eq" :comparator "i;ascii-numeric" "2" { debug_log "count"; fail "count"; }
  if not decided :number 1 "redirect" { debug_log "order"; fail "order"; }
  if not carry_out { debug_log "carry"; fail "carry"; }
  if not stored "folder" { debug_log "stored"; fail "stored"; }
  if not header "x-new" "value" { debug_log "edit"; fail "edit"; }
  debug_log "one";
}
set_message text:
Subject: second

text
.
;
case "nothing is left of it" {
  if exists "x-new" { debug_log "left"; }
  if not decided :number 1 "keep" { debug_log "no keep"; }
  if true { fail "leaves the whole case"; }
  debug_log "not reached";
}
case "and the next runs" { discard; if decided "discard" { debug_log "three"; } }`;
  const compiled = compile(source, { registry: standardRegistry([driver]) });
  t.ok(compiled.ok, JSON.stringify(compiled.diagnostics));
  if (!compiled.ok) return;
  const host = memoryHost();
  const result = await run(compiled.program, host);
  t.equal(result.status, 'ok', JSON.stringify(result.diagnostics));
  t.same(host.logged, ['one', 'three']);
  t.match(host.sent, [{ from: 'dave@example.org', to: ['carol@example.com'] }]);
});

t.test('a definition that cannot work is refused', async t => {
  t.throws(
    () => defineExtension({ name: 'x', commands: [{ name: 'Bad Name', run: () => undefined }] }),
    /no lower-case word/,
  );
  t.throws(() => standardRegistry([defineExtension({ name: 'fileinto' })]), /defined twice/);
  t.throws(
    () =>
      standardRegistry([defineExtension({ name: 'x', actions: [{ name: 'keep', execute: async () => undefined }] })]),
    /'keep' is defined twice/,
  );
});

t.test('what the command line shows', async t => {
  const { message, envelope, ...host } = memoryHost();
  t.ok(message && envelope);
  const tested = await testScript(
    'require "fileinto";\nif header :contains "subject" "hello" {\n  fileinto "a";\n}',
    Buffer.from(plainMessage.replace(/\n/g, '\r\n')),
    { from: 'a@example.org', to: 'b@example.com' },
    host,
  );
  t.match(tested, {
    status: 'ok',
    actions: [{ action: 'fileinto', arguments: { mailbox: 'a' } }],
    trace: [
      { kind: 'command', name: 'require', line: 1 },
      { kind: 'command', name: 'if', line: 2 },
      { kind: 'test', name: 'header', line: 2, result: true, values: ['Hello world'], keys: ['hello'] },
      { kind: 'command', name: 'fileinto', line: 3 },
    ],
  });
  t.match(await testScript('nonsense;', Buffer.from(''), { from: '', to: '' }, host), {
    status: 'invalid',
    actions: [],
    diagnostics: [{ line: 1, column: 1, severity: 'error' }],
  });
});
