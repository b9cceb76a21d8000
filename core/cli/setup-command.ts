// postern setup: from nothing to a configuration that starts. Asks on a terminal, or takes flags; writes the
// configuration, the PowerShell for Exchange and the DNS records to publish. Never overwrites without being told.
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { loadConfig } from '../config/load.ts';
import { checkConfig } from '../gateway.ts';
import { createDurableFiles } from '../lib/atomic-file.ts';
import { createDns, systemServers } from '../net/dns.ts';
import type { Answers } from '../setup/answers.ts';
import { collectAnswers } from '../setup/collect.ts';
import type { SecretFile } from '../setup/collect-directory.ts';
import type { Collector, SetupFlags } from '../setup/collector.ts';
import { mtaStsPolicy, type RecordState, recordLine, recordState, wantedRecords } from '../setup/dns-records.ts';
import { exchangeScripts } from '../setup/exchange-script.ts';
import { type Questions, silentQuestions, terminalQuestions } from '../setup/questions.ts';
import { renderConfig } from '../setup/render-config.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { packageVersion } from './package-version.ts';

export interface SetupOptions extends SetupFlags {
  readonly yes?: boolean;
  readonly force?: boolean;
  /** Name servers to ask, in place of those of the system. */
  readonly dns?: readonly string[];
}

/** Given with --config before or behind the command; the file to write. */
interface Invocation {
  optsWithGlobals(): { readonly config?: readonly string[] };
}

function targetFile(context: CliContext, given: string | undefined): string {
  const named = given ?? context.env['POSTERN_CONFIG'];
  return path.resolve(
    context.workingFolder,
    named ?? (process.getuid?.() === 0 ? '/etc/postern/postern.yaml' : 'postern.yaml'),
  );
}

async function mayWrite(file: string, { force, yes }: SetupOptions, questions: Questions): Promise<void> {
  if (!existsSync(file) || force) return;
  const agreed =
    !yes &&
    questions !== silentQuestions &&
    (await questions.confirm(`'${file}' exists. Replace it (the old one is kept as .old)?`, false));
  if (!agreed)
    throw new UsageError(
      `'${file}' exists already; --force replaces it and keeps the old one as .old`,
      exitCodes.negative,
    );
}

/** Checked under a name beside it, then put in place as a whole. */
async function install(context: CliContext, file: string, text: string, secret?: SecretFile): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  if (secret) await createDurableFiles().write(secret.file, `${secret.text}\n`, { mode: 0o600 });
  const draft = `${file}.new`;
  await writeFile(draft, text, { mode: 0o644 });
  try {
    const { problems } = await checkConfig(loadConfig(draft, context.workingFolder), context);
    if (problems.length > 0)
      throw new Error(`What was written is not valid: ${problems.map(each => each.message).join('; ')}`);
    if (existsSync(file)) await copyFile(file, `${file}.old`);
    await createDurableFiles().write(file, text, { mode: 0o644 });
  } finally {
    await rm(draft, { force: true });
  }
}

const stateWords: Readonly<Record<RecordState['state'], string>> = {
  live: 'live',
  missing: 'to publish',
  differs: 'differs',
  unknown: 'not known now',
};

function recordsText(states: readonly RecordState[]): string {
  return states
    .flatMap(({ record, state, found }) => [
      `; ${stateWords[state]}${record.optional ? ' (optional)' : ''}: ${record.why}`,
      ...(state === 'differs' ? [`; published now: ${found.join(' | ')}`] : []),
      recordLine(record),
      '',
    ])
    .join('\n');
}

async function writeBeside(file: string, name: string, text: string): Promise<string> {
  const target = path.join(path.dirname(file), name);
  await createDurableFiles().write(target, text, { mode: 0o644 });
  return target;
}

export async function setup(context: CliContext, options: SetupOptions, invocation: Invocation): Promise<ExitCode> {
  const silent = options.yes === true || context.stdin.isTTY !== true;
  const questions = silent ? silentQuestions : terminalQuestions(context);
  const file = targetFile(context, invocation.optsWithGlobals().config?.at(-1));
  const say = (line: string): void => void (context.json || context.stdout.write(`${line}\n`));
  const servers = options.dns && options.dns.length > 0 ? options.dns : await systemServers();
  const dns = createDns({ servers, clock: context.clock, totalMs: 4_000 });
  try {
    await mayWrite(file, options, questions);
    const collector: Collector = { context, flags: options, questions, silent, dns, configFile: file, say };
    const { answers, secret } = await collectAnswers(collector);
    if (!silent && !(await questions.confirm(`Write ${file}?`, true)))
      throw new UsageError('Nothing was written', exitCodes.negative);
    const text = renderConfig(answers, `postern setup ${packageVersion()}`);
    await install(
      context,
      file,
      options.dns?.length
        ? `${text}\ndns:\n  servers: [${servers.map(each => JSON.stringify(each)).join(', ')}]\n`
        : text,
      secret,
    );
    const written = [file, ...(secret ? [secret.file] : [])];
    for (const script of exchangeScripts(answers)) written.push(await writeBeside(file, script.name, script.text));
    const states = await dnsStates(answers, dns);
    written.push(await writeBeside(file, 'dns-records.txt', recordsText(states)));
    print(context, { answers, written, dns: states }, () => closing(answers, written, states, file));
    return exitCodes.ok;
  } finally {
    questions.close();
    dns.close();
  }
}

function dnsStates(answers: Answers, dns: ReturnType<typeof createDns>): Promise<readonly RecordState[]> {
  const wanted = wantedRecords({
    hostname: answers.hostname,
    domains: answers.domains,
    addresses: answers.addresses,
    sends: answers.kind === 'local' || answers.outboundPort !== undefined,
    dkim: answers.dkim,
  });
  return Promise.all(wanted.map(record => recordState(dns, record)));
}

function closing(answers: Answers, written: readonly string[], states: readonly RecordState[], file: string): string {
  const scripts = written.filter(name => name.endsWith('.ps1'));
  return [
    '',
    'Written:',
    ...written.map(name => `  ${name}`),
    '',
    'DNS:',
    ...states.map(
      ({ record, state }) =>
        `  ${stateWords[state].padEnd(13)} ${recordLine(record).replace(/\n\s*/g, ' ').slice(0, 100)}`,
    ),
    ...(answers.domains.length > 0 &&
    states.some(each => each.record.name.startsWith('_mta-sts') && each.state !== 'live')
      ? [
          `  MTA-STS policy for https://mta-sts.${answers.domains[0]}/.well-known/mta-sts.txt: ${mtaStsPolicy(answers.hostname).trim().replace(/\n/g, ' | ')}`,
        ]
      : []),
    '',
    'Next:',
    ...(scripts[0] === undefined
      ? []
      : [`  Run ${path.basename(scripts[0])} on the Exchange side; ${path.basename(scripts[1] ?? '')} takes it back`]),
    ...(answers.kind === 'local' ? [`  postern --config ${file} user add NAME@${answers.domains[0]}`] : []),
    `  postern --config ${file} start`,
    `  postern --config ${file} doctor`,
    '  Last of all the MX record.',
  ].join('\n');
}
