// Extensions of Pigeonhole that scripts in the wild use: debug, report, and the three that run programs. Those are off
// unless the administrator enables them, and run nothing but what the host's program port offers.

import { ropeBytes } from '../../mail/rope.ts';
import { parseOneAddress } from '../addresses.ts';
import type { Field } from '../compose.ts';
import { addressField, commonFields, messageOf, multipart, textPart } from '../compose.ts';
import type { Call, Complain, Execution, TagDefinition } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { HostError } from '../ports.ts';
import type { Entry } from '../result.ts';
import { checkOutboundAddress } from './redirect.ts';
import type { VariableWriter } from './variables.ts';
import { variableWriter } from './variables.ts';

export const debug = defineExtension({
  name: 'vnd.dovecot.debug',
  commands: [
    {
      name: 'debug_log',
      arguments: [{ name: 'text', type: 'string' }],
      run(call) {
        const text = call.string('text');
        call.run.note('info', call.line, `DEBUG: ${text}`);
        call.run.host.log?.(call.line, text);
      },
    },
  ],
});

// RFC 5965: a feedback report in the Abuse Reporting Format
async function sendReport(entry: Entry, execution: Execution): Promise<void> {
  const { type, message, address, headersOnly } = entry.arguments;
  const { host } = execution;
  const header = Buffer.from(
    [...execution.original.headers].map(field => field.raw.toString('latin1')).join(''),
    'latin1',
  );
  const feedback = [
    `Feedback-Type: ${String(type)}`,
    `User-Agent: Postern Sieve`,
    'Version: 1',
    `Original-Mail-From: <${execution.envelope.from.replace(/[^\x21-\x7e]/g, '?')}>`,
    `Original-Rcpt-To: <${execution.envelope.to.replace(/[^\x21-\x7e]/g, '?')}>`,
  ];
  const part = multipart(host, 'multipart/report; report-type=feedback-report', [
    textPart(String(message)),
    { fields: [['Content-Type', 'message/feedback-report']], body: Buffer.from(`${feedback.join('\r\n')}\r\n`) },
    headersOnly === true
      ? { fields: [['Content-Type', 'text/rfc822-headers']], body: header }
      : { fields: [['Content-Type', 'message/rfc822']], body: await ropeBytes(execution.original.rope) },
  ]);
  const subject = execution.original.headers.get('subject')?.value ?? '(no subject)';
  const fields: Field[] = [
    ['From', `Postmaster <postmaster@${execution.setting('hostname')}>`],
    ['To', addressField(String(address))],
    ['Subject', `Report: ${subject}`],
    ['Auto-Submitted', 'auto-generated (report)'],
    ...commonFields(host),
    ...part.fields,
  ];
  const to = [parseOneAddress(String(address))?.text ?? String(address)];
  await execution.send({ from: '', to, message: messageOf(fields, part.body), reason: 'notify' });
  execution.detail = `reported to ${to[0]}`;
}

export const report = defineExtension({
  name: 'vnd.dovecot.report',
  commands: [
    {
      name: 'report',
      tags: [{ name: 'headers_only' }],
      arguments: [
        {
          name: 'feedback type',
          type: 'string',
          check(type, complain) {
            if (!/^[A-Za-z0-9!#$%&'*+.^_`{|}~-]+$/.test(type)) complain(`Invalid type of feedback ${quote(type)}`);
          },
        },
        { name: 'message', type: 'string' },
        { name: 'address', type: 'string', check: checkOutboundAddress },
      ],
      run: call =>
        call.act({
          action: 'report',
          cancelsKeep: false,
          arguments: {
            type: call.string('feedback type'),
            message: call.string('message'),
            address: call.string('address'),
            ...(call.has('headers_only') ? { headersOnly: true } : {}),
          },
        }),
    },
  ],
  actions: [
    {
      name: 'report',
      meets: (entry, earlier) =>
        earlier.action === 'report' && earlier.arguments['address'] === entry.arguments['address'] ? 'drop' : 'both',
      execute: sendReport,
    },
  ],
});

/** A file name within the administrator's folder: no path, nothing hidden. */
function checkProgram(name: string, complain: Complain): void {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/.test(name)) complain(`Invalid name of a program ${quote(name)}`);
}

function checkArgument(text: string, complain: Complain): void {
  if (text.length > 1024 || /[\0\r\n]/.test(text))
    complain('Argument of a program holds line ends or is longer than 1024 characters');
}

const programArguments = [
  { name: 'program', type: 'string', check: checkProgram },
  { name: 'arguments', type: 'string-list', check: checkArgument, optional: true },
] as const;

interface Outcome {
  readonly status: number;
  readonly output: Uint8Array;
}

async function runProgram(call: Call, input: Uint8Array): Promise<Outcome> {
  const { run } = call;
  const { programs } = run.host;
  if (!programs) throw call.error('External programs are not available');
  run.spend(100);
  return run.wait(
    programs.run({
      name: call.string('program'),
      arguments: call.strings('arguments').slice(0, 16),
      input,
      timeoutMs: run.setting('programTimeoutMs'),
    }),
  );
}

export const pipe = defineExtension({
  name: 'vnd.dovecot.pipe',
  offByDefault: true,
  commands: [
    {
      name: 'pipe',
      tags: [{ name: 'try' }],
      arguments: programArguments,
      run: call =>
        call.act({
          action: 'pipe',
          cancelsKeep: !call.has('try'),
          arguments: {
            program: call.string('program'),
            arguments: call.strings('arguments'),
            ...(call.has('try') ? { try: true } : {}),
          },
        }),
    },
  ],
  tags: [
    {
      name: 'copy',
      on: ['pipe'],
      apply(entry) {
        entry.cancelsKeep = false;
      },
    },
  ],
  actions: [
    {
      name: 'pipe',
      async execute(entry, execution) {
        const { programs } = execution.host;
        if (!programs) throw new HostError('permanent', 'External programs are not available');
        const name = String(entry.arguments['program']);
        const { status } = await programs.run({
          name,
          arguments: (entry.arguments['arguments'] as readonly string[]).slice(0, 16),
          input: await ropeBytes(entry.message.rope),
          timeoutMs: execution.setting('programTimeoutMs'),
        });
        if (status === 0) execution.detail = `piped to ${name}`;
        else if (entry.arguments['try'] === true) execution.skip(`program ${name} ended with status ${status}`);
        else
          throw new HostError(
            status === 75 ? 'temporary' : 'permanent',
            `Program '${name}' ended with status ${status}`,
          );
      },
    },
  ],
});

/** The message becomes what the program writes; false, and the message unchanged, where it fails. */
async function filterMessage(call: Call): Promise<boolean> {
  const { status, output } = await runProgram(call, await ropeBytes(call.run.message.rope));
  if (status !== 0) return false;
  if (output.length > 0) call.run.replaceMessage(output);
  return true;
}

export const filter = defineExtension({
  name: 'vnd.dovecot.filter',
  offByDefault: true,
  commands: [
    {
      name: 'filter',
      arguments: programArguments,
      async run(call) {
        if (!(await filterMessage(call))) throw call.error(`Program ${quote(call.string('program'))} failed`);
      },
    },
  ],
  tests: [{ name: 'filter', arguments: programArguments, run: filterMessage }],
});

const executeTags: readonly TagDefinition[] = [
  { name: 'input', type: 'string', group: 'input' },
  { name: 'pipe', group: 'input' },
  {
    name: 'output',
    type: 'string',
    literal: true,
    validate(word) {
      if (!word.unit.isActive('variables'))
        word.error("Tag ':output' needs 'require \"variables\";' at the top of the script", 'output');
      word.data = variableWriter(word.string('output') ?? '', word, 'output');
    },
  },
];

async function executeProgram(call: Call): Promise<boolean> {
  const input = call.has('pipe')
    ? await ropeBytes(call.run.message.rope)
    : Buffer.from(call.maybeString('input') ?? '');
  const { status, output } = await runProgram(call, input);
  const write = call.data as VariableWriter | undefined;
  if (write && status === 0) write(Buffer.from(output).toString('utf8').replaceAll('\0', ''), call.run);
  return status === 0;
}

export const executeExtension = defineExtension({
  name: 'vnd.dovecot.execute',
  offByDefault: true,
  commands: [{ name: 'execute', tags: executeTags, arguments: programArguments, run: executeProgram }],
  tests: [{ name: 'execute', tags: executeTags, arguments: programArguments, run: executeProgram }],
});
