// Runs one case of a case file and says what is wrong with it. Expectations of a script:
//
//   => keep                          the actions, in order, all of them: name, then arguments that must be there as JSON;
//   => keep implicit                 `implicit` for the implicit keep, `none` for no action at all
//   => error 2 words                 a compile error in line 2 with these words; all errors must be listed
//   => warning 1 words               a compile warning
//   => failure 3 words               a run-time error: the implicit keep is the only action
//   => tempfail words                a port failed for now
//   => resource-limit words
//   => log text                      one line of `debug_log`, in order
//   => stored BOX [flags] words      after carrying out: a message in that mailbox with exactly these flags and these words
//   => stored BOX none               nothing in it
//   => sent to@example.org words     a mail to that address with these words; `sent none`
//   => envelope from@example.org     its envelope sender; `<>` for the null sender
//   => skipped words                 an action that was not needed, and why
//   => executed failure words        how carrying out ended
//   => refused words                 refused in the session
//   => runs 2                        the script is run and carried out twice on the same host, the last one counts
import type { Diagnostic, ExecutionResult, Registry, SieveResult } from '../../../core/sieve/index.ts';
import { compile, describeActions, execute, formatDiagnostics, run } from '../../../core/sieve/index.ts';
import type { MemoryHost, MemoryHostOptions } from '../../harness/sieve-host.ts';
import { memoryHost } from '../../harness/sieve-host.ts';
import type { SieveCase } from './case-file.ts';

const actionWords = new Set([
  'keep',
  'fileinto',
  'redirect',
  'discard',
  'reject',
  'ereject',
  'vacation',
  'notify',
  'report',
  'pipe',
  'none',
]);

/** Sentences about what is not as expected; empty when all is well. */
export async function runCase(
  one: SieveCase,
  message: string,
  registry: Registry,
  programs: NonNullable<MemoryHostOptions['programs']>,
): Promise<readonly string[]> {
  const prefix = one.require.length === 0 ? '' : `require [${one.require.map(name => `"${name}"`).join(', ')}]; `;
  const own = /^\s*require\b/m.test(one.script);
  if (one.kind !== 'script') return runTest(one, `${prefix}if ${one.script} { discard; }`, message, registry, programs);
  const compiled = compile(own ? one.script : `${prefix}${one.script}`, { registry });
  const problems = compareDiagnostics(one, compiled.diagnostics);
  if (!compiled.ok) return problems;
  const host = memoryHost({ message, programs, ...(one.host as MemoryHostOptions) });
  const rounds = Number(one.expect.find(line => line.startsWith('runs '))?.slice(5) ?? 1);
  const executing =
    rounds > 1 || one.expect.some(line => /^(stored|sent|envelope|skipped|executed|refused|order)\b/.test(line));
  let result = await run(compiled.program, host);
  let carried: ExecutionResult | undefined;
  for (let round = 0; round < rounds && executing; round += 1) {
    if (round > 0) {
      host.sent.length = 0;
      host.logged.length = 0;
      result = await run(compiled.program, host);
    }
    carried = await execute(result, host);
  }
  return [...problems, ...compareResult(one, result, host), ...(carried ? compareExecution(one, carried, host) : [])];
}

async function runTest(
  one: SieveCase,
  script: string,
  message: string,
  registry: Registry,
  programs: NonNullable<MemoryHostOptions['programs']>,
): Promise<readonly string[]> {
  const compiled = compile(script, { registry });
  if (!compiled.ok) return [formatDiagnostics(compiled.diagnostics)];
  const result = await run(compiled.program, memoryHost({ message, programs, ...(one.host as MemoryHostOptions) }));
  if (result.status !== 'ok') return [formatDiagnostics(result.diagnostics)];
  const met = result.actions.some(entry => entry.action === 'discard');
  return met === (one.kind === 'true') ? [] : [`the test is ${met}`];
}

function compareDiagnostics(one: SieveCase, diagnostics: readonly Diagnostic[]): readonly string[] {
  const wanted = one.expect.filter(line => /^(error|warning) /.test(line));
  const found = diagnostics.map(d => `${d.severity} ${d.line} ${d.message}`);
  const fits =
    wanted.length === found.length &&
    wanted.every((line, at) => {
      const [, severity, number, words = ''] = /^(\w+) (\d+) ?(.*)$/.exec(line) ?? [];
      return found[at]?.startsWith(`${severity} ${number} `) && found[at]?.includes(words);
    });
  return fits ? [] : [`diagnostics: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`];
}

function compareResult(one: SieveCase, result: SieveResult, host: MemoryHost): readonly string[] {
  const problems: string[] = [];
  const failure = one.expect.find(line => /^(failure|tempfail|resource-limit)\b/.test(line));
  const said = formatDiagnostics(result.diagnostics);
  if (failure === undefined && result.status !== 'ok') problems.push(`status ${result.status}: ${said}`);
  if (failure !== undefined) {
    const [, status, line, words = ''] = /^([\w-]+) ?(\d+)? ?(.*)$/.exec(failure) ?? [];
    const last = result.diagnostics.filter(d => d.severity === 'error').at(-1);
    if (result.status !== status) problems.push(`status ${result.status} instead of ${status}: ${said}`);
    if (line !== undefined && last?.line !== Number(line)) problems.push(`error in line ${last?.line}: ${said}`);
    if (!last?.message.includes(words)) problems.push(`error says '${last?.message}'`);
    const kept = result.actions.length === 1 && result.actions[0]?.implicit === true;
    if (!kept) problems.push(`actions after an error: ${JSON.stringify(describeActions(result.actions))}`);
  }
  problems.push(...compareActions(one, result));
  const log = one.expect.filter(line => line.startsWith('log ')).map(line => line.slice(4));
  if (log.length > 0 && log.join('\n') !== host.logged.map(visible).join('\n'))
    problems.push(`log: expected ${JSON.stringify(log)}, found ${JSON.stringify(host.logged.map(visible))}`);
  return problems;
}

const visible = (text: string): string => text.replaceAll('\r\n', '\\r\\n');

function compareActions(one: SieveCase, result: SieveResult): readonly string[] {
  const wanted = one.expect.filter(line => actionWords.has(line.split(' ', 1)[0] ?? ''));
  if (wanted.length === 0) return [];
  const found = describeActions(result.actions);
  if (wanted[0] === 'none') return found.length === 0 ? [] : [`actions: ${JSON.stringify(found)}`];
  const fits =
    wanted.length === found.length &&
    wanted.every((line, at) => {
      const [, action, implicit, json] = /^(\w+)( implicit)? ?(\{.*\})?$/.exec(line) ?? [];
      const entry = found[at];
      const needed = { ...(JSON.parse(json ?? '{}') as object), ...(implicit ? { implicit: true } : {}) };
      const exact = entry?.arguments['implicit'] === (implicit ? true : undefined);
      return (
        entry?.action === action &&
        exact &&
        Object.entries(needed).every(([key, value]) => equal(entry?.arguments[key], value))
      );
    });
  return fits ? [] : [`actions: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`];
}

/** `null` in an expectation: the argument must be absent. */
const equal = (found: unknown, wanted: unknown): boolean =>
  wanted === null ? found === undefined : JSON.stringify(found) === JSON.stringify(wanted);

function compareExecution(one: SieveCase, carried: ExecutionResult, host: MemoryHost): readonly string[] {
  const problems: string[] = [];
  const said = `${formatDiagnostics(carried.diagnostics)} ${carried.outcomes.map(o => `${o.entry.action} ${o.state} ${o.detail ?? ''}`).join('; ')}`;
  const wantsFailure = one.expect.find(line => line.startsWith('executed '));
  if (wantsFailure === undefined && carried.status !== 'ok') problems.push(`carried out: ${carried.status}: ${said}`);
  for (const line of one.expect) {
    const [word = '', ...rest] = line.split(' ');
    const text = rest.join(' ');
    if (word === 'executed' && !(carried.status === rest[0] && said.includes(rest.slice(1).join(' '))))
      problems.push(`carried out: ${carried.status}: ${said}`);
    if (word === 'skipped' && !carried.outcomes.some(o => o.state === 'skipped' && (o.detail ?? '').includes(text)))
      problems.push(`skipped: ${said}`);
    if (word === 'refused' && !(carried.refused ?? '').includes(text)) problems.push(`refused: ${carried.refused}`);
    if (word === 'stored') problems.push(...compareStored(text, host));
    if (word === 'sent') problems.push(...compareSent(text, host));
    if (word === 'envelope' && !host.sent.some(mail => (mail.from === '' ? '<>' : mail.from) === text))
      problems.push(`envelope senders: ${host.sent.map(mail => mail.from).join(', ')}`);
  }
  return problems;
}

function compareStored(text: string, host: MemoryHost): readonly string[] {
  const [, quoted, bare, rest = ''] = /^(?:"([^"]*)"|(\S+)) ?(.*)$/.exec(text) ?? [];
  const name = quoted ?? bare ?? '';
  const messages = host.boxes.get(name)?.messages ?? [];
  if (rest === 'none') return messages.length === 0 ? [] : [`${name} holds ${messages.length} messages`];
  const [, flags, words = ''] = /^(?:\[([^\]]*)\])? ?(.*)$/.exec(rest) ?? [];
  const wanted = words.replaceAll('\\r\\n', '\r\n');
  const without = wanted.startsWith('not ') ? wanted.slice(4) : undefined;
  const fits = messages.some(
    message =>
      (flags === undefined || message.flags.join(' ') === flags) &&
      (without === undefined ? message.text.includes(wanted) : !message.text.includes(without)),
  );
  return fits ? [] : [`${name}: expected ${rest}, found ${JSON.stringify(messages)}`];
}

function compareSent(text: string, host: MemoryHost): readonly string[] {
  if (text === 'none') return host.sent.length === 0 ? [] : [`sent: ${JSON.stringify(host.sent)}`];
  const [to = '', ...rest] = text.split(' ');
  const words = rest.join(' ').replaceAll('\\r\\n', '\r\n');
  const without = words.startsWith('not ') ? words.slice(4) : undefined;
  const fits = host.sent.some(
    mail => mail.to.includes(to) && (without === undefined ? mail.text.includes(words) : !mail.text.includes(without)),
  );
  return fits ? [] : [`sent: expected ${text}, found ${JSON.stringify(host.sent)}`];
}
