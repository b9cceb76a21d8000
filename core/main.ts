#!/usr/bin/env node
// The command line: the only reader of `process.argv`, `process.env` and the working folder.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { type CliContext, exitCodes, UsageError } from './cli/context.ts';
import { packageVersion } from './cli/package-version.ts';
import { type SendmailCall, sendmailCall } from './cli/sendmail-call.ts';
import { ConfigError } from './config/load.ts';
import { byteSize } from './config/schema.ts';
import { NotRunningError } from './control/client.ts';
import { systemClock } from './lib/clock.ts';
import { createLogger } from './log.ts';

interface GlobalOptions {
  /** As often as it was given; the last one counts. */
  readonly config?: readonly string[];
  readonly json?: boolean;
}

/** `--config`, POSTERN_CONFIG, ./config/postern.yaml, /etc/postern/postern.yaml, the one that comes with the package. */
function findConfig(given: string | undefined): string {
  const named = given ?? process.env['POSTERN_CONFIG'];
  if (named !== undefined) return named;
  const inPackage = [
    path.join(import.meta.dirname, '../config/postern.yaml'),
    path.join(import.meta.dirname, '../../config/postern.yaml'),
  ];
  const found = ['config/postern.yaml', '/etc/postern/postern.yaml', ...inPackage].find(file => existsSync(file));
  return found ?? 'config/postern.yaml';
}

function contextOf(options: GlobalOptions, configFile = options.config?.at(-1)): CliContext {
  return {
    env: process.env,
    workingFolder: process.cwd(),
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    clock: systemClock,
    log: createLogger({ level: 'warn', format: 'pretty' }, process.stderr, false),
    configFile: findConfig(configFile),
    program: { command: process.execPath, args: [...process.execArgv, fileURLToPath(import.meta.url)] },
    json: options.json === true,
    color: process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined,
    onSignal(handler) {
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => handler(signal));
    },
    onFault(handler) {
      process.on('uncaughtException', error => handler('exception', error));
      process.on('unhandledRejection', reason => handler('rejection', reason));
    },
  };
}

/** Of an option that may be repeated. */
const several = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

const program = new Command('postern')
  .description('Mail filter gateway')
  .option(
    '-c, --config <file>',
    'configuration file (default: $POSTERN_CONFIG, config/postern.yaml, /etc/postern/postern.yaml)',
    several,
  )
  .option('--json', 'print JSON for programs')
  .version(packageVersion(), '-V, --version')
  .showHelpAfterError('(postern --help lists the commands)')
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 the answer is no, 64 usage, 69 the gateway is not running, 70 internal error, 78 configuration not valid; sendmail also 65 not mail, 67 not an address, 75 try again, 77 not allowed.',
  )
  .exitOverride();

const context = (): CliContext => contextOf(program.opts<GlobalOptions>());
/** A command's module is loaded when the command is given: most need a small part of the gateway only. */
const run =
  <Args extends readonly unknown[]>(
    load: () => Promise<(context: CliContext, ...args: Args) => number | Promise<number>>,
  ) =>
  async (...args: readonly unknown[]): Promise<void> => {
    const command = await load();
    process.exitCode = await command(context(), ...(args as unknown as Args));
  };
const configCommands = () => import('./cli/config-command.ts');
const gatewayCommands = () => import('./cli/gateway-commands.ts');
const queueCommands = () => import('./cli/queue-command.ts');
const userCommands = () => import('./cli/user-command.ts');
const sizeOption = (text: string): number => byteSize().parse(text);

program
  .command('start')
  .description('start the gateway')
  .option('--worker', 'run in this process, without the supervisor that restarts it after a crash')
  .action(async options => {
    await run(async () => (await import('./cli/start-command.ts')).start)(options);
    // A timer or socket that a plugin has left keeps no process.
    process.stdout.write('', () => process.exit());
  });
program
  .command('setup')
  .description('from nothing to a configuration that starts; asks on a terminal what no flag says')
  .option('--kind <kind>', 'what is behind: exchange, microsoft365, smtp or local')
  .option('--hostname <name>', 'name of the gateway, as the world knows it')
  .option('--domain <domain>', 'domain that mail comes for; may be repeated', several)
  .option('--backend <host>', 'the server behind, host or host:port')
  .option('--ldap <url>', 'Active Directory with the recipients, ldaps://host')
  .option('--ldap-domain <domain>', 'in place of --ldap: its domain, whose SRV records name the domain controllers')
  .option('--ldap-starttls', 'encrypt ldap:// by StartTLS; always so where a password crosses the network')
  .option(
    '--ldap-bind <user>',
    'who may read it, user@domain or a DN; default: anonymous, which Active Directory refuses',
  )
  .option('--ldap-password-file <file>', 'file with the password; default: ldap-password beside the configuration')
  .option('--ldap-password-env <variable>', 'environment variable with the password; the gateway needs it too')
  .option('--ldap-base <dn>', 'where to search in it; default: what it names itself')
  .option('--ldap-ca <file>', 'PEM file of the authority that signed its certificate, where that is a private one')
  .option('--pin', 'trust the certificate that it shows and no other')
  .option('--no-pin', 'do not pin its certificate')
  .option('--outbound <port>', 'port for its outgoing mail')
  .option('--no-outbound', 'it does not send through here')
  .option('--network <network>', 'where its outgoing mail comes from; may be repeated', several)
  .option('--listen <address:port>', 'for mail of the world; default 0.0.0.0:25')
  .option(
    '--address <address>',
    'by which the world reaches the gateway, for the DNS records; may be repeated',
    several,
  )
  .option('--data <folder>', 'folder for mail, queue and state')
  .option('--dkim', 'make DKIM keys')
  .option('--no-dkim', 'make no DKIM keys')
  .option('--dns <server>', 'name server to ask; may be repeated', several)
  .option('-y, --yes', 'ask nothing')
  .option('--force', 'replace an existing configuration; the old one is kept as .old')
  .action(run(async () => (await import('./cli/setup-command.ts')).setup));
program
  .command('doctor')
  .description('whether everything is in order, here and in the world around, and what to do where it is not')
  .option('--live', 'send test messages through the running gateway')
  .option('--to <address>', 'for --live: a mailbox behind the gateway')
  .option('--outside <address>', 'for --live: an address in the world that gets an outgoing message')
  .option('--ntp <host>', 'time server to compare the clock with', 'pool.ntp.org')
  .option('--only <area>', 'look at one area; may be repeated', several)
  .action(run(async () => (await import('./cli/doctor-command.ts')).doctor));
program
  .command('status')
  .description('listeners, sessions, queue and plugins of the running gateway')
  .action(run(async () => (await gatewayCommands()).status));
program
  .command('reload')
  .description('load the configuration anew; live sessions finish on the old one')
  .action(run(async () => (await gatewayCommands()).reload));
program
  .command('fetch')
  .argument('[account]', 'name of the account; default: all')
  .description('fetch the mail of accounts at other providers now')
  .action(run(async () => (await gatewayCommands()).fetchNow));
program
  .command('trace')
  .argument('[id]', 'queue id, as in the 250 reply')
  .option('--since <time>', "such as '2h' or '2026-11-21T08:00'")
  .option('--until <time>', 'in the same forms')
  .option('--sender <address>', "envelope sender, '@example.org' for a domain, '<>' for the null sender; * is any text")
  .option('--recipient <address>', 'envelope recipient, in the same forms')
  .option('--message-id <id>', 'Message-ID')
  .option('--subject <text>', 'part of the subject')
  .option('--client <address>', 'address of the client')
  .option('--outcome <outcome>', 'accepted, rejected, deferred, quarantined, discarded or aborted')
  .option('--recipient-outcome <outcome>', 'of one recipient: delivered, relayed, queued, bounced, released …')
  .option('--plugin <name>', 'an entry of the chain that said something else than continue')
  .option('--verdict <verdict>', 'what that entry, or any, said: accept, reject, defer, quarantine, discard or error')
  .option('--limit <n>', 'most messages, at most 1000 (default: 50)', Number)
  .option('--full', 'each with every step')
  .option('--follow', 'go on printing messages as they come')
  .description('what every plugin decided about a message, and why; without an id: a search')
  .action(run(async () => (await import('./cli/trace-command.ts')).trace));
program
  .command('why')
  .argument('<id>', 'queue id')
  .description('in sentences: what decided about a message, and what would have changed it')
  .action(run(async () => (await import('./cli/trace-command.ts')).why));
program
  .command('version')
  .description('versions of Postern and Node.js')
  .action(run(async () => (await gatewayCommands()).version));

const config = program.command('config').description('check, show and explain the configuration');
config
  .command('check')
  .description('validate the file, the plugins and their options')
  .action(run(async () => (await configCommands()).configCheck));
config
  .command('show')
  .description('the configuration as it is understood, with all defaults')
  .action(run(async () => (await configCommands()).configShow));
config
  .command('explain')
  .argument('<key>', 'such as listeners.port, or chain.dnsbl.lists')
  .description('what a key means')
  .action(run(async () => (await configCommands()).configExplain));
config
  .command('reference')
  .description('all keys as Markdown, with --json as JSON Schema')
  .action(run(async () => (await configCommands()).configReference));

const queue = program.command('queue').description('mail that waits: next hop down, remote destination, held');
queue
  .command('list')
  .option('--limit <n>', 'most messages', Number, 100)
  .description('what waits, oldest first')
  .action(run(async () => (await queueCommands()).queueList));
queue
  .command('show')
  .argument('<id>')
  .description('one message and the state of each recipient')
  .action(run(async () => (await queueCommands()).queueShow));
const queueChanges = {
  flush: 'try now',
  hold: 'neither try nor return until released',
  release: 'let held mail go on',
  delete: 'remove; nobody is told',
  bounce: 'return to the senders',
  reroute: 'by another next hop instead of the configured route',
} as const;
for (const [name, description] of Object.entries(queueChanges) as [keyof typeof queueChanges, string][]) {
  const command = queue
    .command(name)
    .argument('[id]')
    .option('--sender <address>', "envelope sender, '<>' for the null sender")
    .option('--recipient <address>', 'envelope recipient')
    .option('--domain <domain>', 'recipient domain')
    .option('--all', 'everything')
    .description(description)
    .action(run(async () => (await queueCommands()).queueChange(name)));
  if (name === 'bounce') command.option('--note <text>', 'words for the report');
  if (name === 'reroute') command.requiredOption('--via <host>', '`host:port`, `[host]:port` to skip MX records');
}
queue
  .command('destinations')
  .option('--limit <n>', 'most destinations', Number, 100)
  .description('where queued mail goes, how much, and which destinations are in trouble or held')
  .action(run(async () => (await queueCommands()).queueDestinations));
for (const name of ['hold-destination', 'release-destination'] as const)
  queue
    .command(name)
    .argument('<destination>', 'as `queue destinations` names it')
    .description(name === 'hold-destination' ? 'nothing goes there until it is released' : 'mail goes there again')
    .action(run(async () => (await queueCommands()).queueDestinationHold(name === 'hold-destination')));

const recipients = program.command('recipients').description('who is known in domains whose mailboxes live elsewhere');
const recipientsCommands = () => import('./cli/recipients-command.ts');
recipients
  .command('status')
  .option('--samples <n>', 'show so many addresses of each directory', Number, 0)
  .option('--domain <domain>', 'samples of this domain')
  .description('directories, how many addresses they hold and when they were read; what callouts found out')
  .action(run(async () => (await recipientsCommands()).recipientsStatus));
recipients
  .command('sync')
  .argument('<directory>')
  .option('--accept-shrink', 'even where most addresses would go')
  .description('read a directory whole, now')
  .action(run(async () => (await recipientsCommands()).recipientsSync));
recipients
  .command('check')
  .argument('<address>')
  .description('would this recipient be taken, and who says so')
  .action(run(async () => (await recipientsCommands()).recipientsCheck));

program
  .command('replay')
  .usage('--config new.yaml [options]')
  .option('--since <time>', "such as '7d' or '2026-11-21'", '7d')
  .option('--until <time>', 'in the same forms')
  .option('--limit <n>', 'most messages that are listed', Number, 50)
  .description('recorded messages through another configuration: which would end otherwise, and why; changes nothing')
  .addHelpText(
    'after',
    '\nRecordings are those of the running configuration: the default one, or `postern --config running.yaml replay --config new.yaml`.',
  )
  .action(async (options: { readonly since: string; readonly until?: string; readonly limit: number }) => {
    const global = program.opts<GlobalOptions>();
    const [first, second] = global.config ?? [];
    const candidate = second ?? first;
    const running = contextOf({ ...global, config: second === undefined ? [] : [first ?? ''] });
    const { replay } = await import('./cli/replay-command.ts');
    process.exitCode = await replay(running, { ...options, ...(candidate === undefined ? {} : { candidate }) });
  });

const quarantine = program.command('quarantine').description('mail that plugins put out of the way');
const quarantineCommands = () => import('./cli/quarantine-command.ts');
/** Options that select quarantined messages. */
const selecting = (command: Command): Command =>
  command
    .option('--reason <reason>', 'virus, spam, attachment, forged, malformed or policy')
    .option('--plugin <name>', 'which entry of the chain put it there')
    .option(
      '--sender <address>',
      "envelope sender, '@example.org' for a domain, '<>' for the null sender; * is any text",
    )
    .option('--recipient <address>', 'envelope recipient, in the same forms')
    .option('--client <address>', 'address of the client')
    .option('--subject <text>', 'part of the subject')
    .option('--message-id <id>', 'Message-ID')
    .option('--since <time>', "such as '2d' or '2026-11-21T08:00'")
    .option('--until <time>', 'in the same forms');
selecting(quarantine.command('list'))
  .option('--released', 'only what was released')
  .option('--no-released', 'only what was not')
  .option('--limit <n>', 'most messages, at most 1000', Number, 50)
  .description('what is there, newest first')
  .action(run(async () => (await quarantineCommands()).quarantineList));
quarantine
  .command('show')
  .argument('<id>', 'queue id')
  .option('--source', 'print the message itself')
  .description('one message: why it is there, to whom it was released, its trace')
  .action(run(async () => (await quarantineCommands()).quarantineShow));
selecting(quarantine.command('release').argument('[ids...]'))
  .option('--to <address>', 'only to this one of its recipients; may be repeated', several)
  .option('--learn', 'teach the spam filters that it is ham')
  .option('--all', 'everything')
  .description('deliver to the recipients it was sent to; what was released before is not sent again')
  .action(run(async () => (await quarantineCommands()).quarantineRelease));
selecting(quarantine.command('delete').argument('[ids...]'))
  .option('--all', 'everything')
  .description('remove; nobody is told')
  .action(run(async () => (await quarantineCommands()).quarantineDelete));
selecting(quarantine.command('learn').argument('<kind>', 'spam or ham').argument('[ids...]'))
  .option('--all', 'everything')
  .description('teach the spam filters of the running gateway')
  .action(run(async () => (await quarantineCommands()).quarantineLearn));

const remembered = {
  greylist: {
    description: 'clients that are made to come again',
    list: 'who waits and who is known',
    release: 'let pass now: an address, network, domain, sender or recipient',
  },
  'rate-limit': {
    description: 'who sends too much',
    list: 'accounts whose mail is held, and who is over a limit',
    release: 'let an account, address, sender … go on, and count anew',
  },
} as const;
for (const [name, { description, list, release }] of Object.entries(remembered)) {
  const memoryCommands = () => import('./cli/plugin-memory-command.ts');
  const group = program.command(name).description(description);
  group
    .command('list')
    .option('--limit <n>', 'most rows', Number, 1000)
    .option('--entry <name>', 'entry of the chain, where there are several')
    .description(list)
    .action(run(async () => (await memoryCommands()).memoryList(name)));
  group
    .command('release')
    .argument('<what>')
    .option('--entry <name>', 'entry of the chain, where there are several')
    .description(release)
    .action(run(async () => (await memoryCommands()).memoryRelease(name)));
}

const user = program.command('user').description('mailbox users');
user
  .command('add')
  .argument('<address>', 'full address, or the local part where there is one domain')
  .description('add a user; the password is read from standard input')
  .option('--generate', 'make a password and print it')
  .option('--quota <size>', 'such as 2GiB', sizeOption)
  .action(run(async () => (await userCommands()).userAdd));
user
  .command('list')
  .description('all users')
  .action(run(async () => (await userCommands()).userList));
user
  .command('passwd')
  .argument('<address>')
  .option('--generate', 'make a password and print it')
  .description('change a password')
  .action(run(async () => (await userCommands()).userPasswd));
user
  .command('remove')
  .argument('<address>')
  .description('remove a user; the Maildir stays')
  .action(run(async () => (await userCommands()).userRemove));

const plugin = program.command('plugin').description('plugins of your own');
const pluginCommands = () => import('./cli/plugin-command.ts');
plugin
  .command('new')
  .argument('<name>', 'lower case letters, digits and -')
  .option('--npm', 'as an npm package, postern-plugin-<name>')
  .description('make a folder with a plugin that compiles, its test and its README')
  .action(run(async () => (await pluginCommands()).pluginNew));
plugin
  .command('check')
  .argument('<plugin>', 'path such as ./mine/build/index.js, npm package, or name of a built-in one')
  .option('--options <yaml>', "options to check it with, such as '{ words: [lottery] }'")
  .option('--engine-absent', 'its engine is not running: it may fail, but accept nothing')
  .description('what every plugin must do: legal verdicts, honest failures, nothing left open')
  .action(run(async () => (await pluginCommands()).pluginCheck));
plugin
  .command('list')
  .description('built-in plugins and those of the chain')
  .action(run(async () => (await pluginCommands()).pluginList));
program
  .command('sendmail')
  .argument('[options and recipients...]')
  .description('sendmail(1): takes a message from standard input');
program.command('mailq').description('what waits, as mailq(1) of Postfix prints it');
program.command('newaliases').description('newaliases(1): the gateway reads its alias files anew');

const dkim = program.command('dkim').description('keys that sign mail');
dkim
  .command('keygen')
  .argument('<domain>')
  .argument('<selector>', 'name of the key, such as 2026a')
  .description('make a DKIM key; prints the DNS record to publish and the lines to configure')
  .option('--type <type>', 'rsa or ed25519', 'rsa')
  .option('--bits <bits>', 'size of an RSA key', '2048')
  .option('--out <folder>', 'where to put the key; default: the folder dkim beside the configuration')
  .action(run(async () => (await import('./cli/dkim-command.ts')).dkimKeygen));

const sieve = program.command('sieve').description('rules of users (Sieve)');
const sieveCommands = () => import('./cli/sieve-command.ts');
sieve
  .command('check')
  .argument('<file>', 'script, `-` for standard input')
  .description('all errors and warnings of a script')
  .option('--global', 'a script of the gateway, which may run programs')
  .action(run(async () => (await sieveCommands()).sieveCheck));
sieve
  .command('test')
  .argument('<file>', 'script')
  .argument('<message>', 'message file, `-` for standard input')
  .option('--from <address>', 'envelope sender')
  .option('--to <address>', 'envelope recipient')
  .option('--trace', 'show every command and test that was evaluated')
  .description('what a script would do with a message; --json prints the actions as an array')
  .option('--global', 'a script of the gateway, which may run programs')
  .action(run(async () => (await sieveCommands()).sieveTest));
sieve
  .command('put')
  .argument('<user>')
  .argument('<file>', 'script, `-` for standard input')
  .option('--name <name>', 'default: the name of the file')
  .option('--activate', 'make it the active one')
  .description('store a script; one that does not compile is refused')
  .action(run(async () => (await sieveCommands()).sievePut));
sieve
  .command('get')
  .argument('<user>')
  .argument('<script>')
  .description('print a script')
  .action(run(async () => (await sieveCommands()).sieveGet));
sieve
  .command('list')
  .argument('<user>')
  .description('scripts of a user')
  .action(run(async () => (await sieveCommands()).sieveList));
sieve
  .command('activate')
  .argument('<user>')
  .argument('[script]')
  .option('--none', 'no script is active any more')
  .description('choose the script that runs')
  .action(run(async () => (await sieveCommands()).sieveActivate));
sieve
  .command('delete')
  .argument('<user>')
  .argument('<script>')
  .description('delete a script that is not active')
  .action(run(async () => (await sieveCommands()).sieveDelete));
sieve
  .command('apply')
  .argument('<user>')
  .requiredOption('--folder <name>', 'mailbox whose messages are sorted')
  .option('--dry-run', 'only say what would be done')
  .description('run the active rules over mail that is there already; nothing is sent')
  .action(run(async () => (await import('./cli/sieve-apply.ts')).sieveApply));

/** What went wrong, for the user, and the exit code for scripts. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  const said = (text: string, code: number): number => {
    process.stderr.write(`postern: ${text}\n`);
    return code;
  };
  if (error instanceof ConfigError) return said(error.message, exitCodes.config);
  if (error instanceof NotRunningError) return said(error.message, exitCodes.unavailable);
  if (error instanceof UsageError) return said(error.message, error.exitCode);
  return said(error instanceof Error ? (error.stack ?? error.message) : String(error), exitCodes.internal);
}

/** Its options are those of sendmail(1), which are none of ours. */
async function runSendmail({ args, mode, configFile }: SendmailCall): Promise<number> {
  const { sendmail } = await import('./cli/sendmail-command.ts');
  return sendmail(contextOf({}, configFile), args, mode);
}

try {
  const call = sendmailCall(process.argv);
  if (call) process.exitCode = await runSendmail(call);
  else await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
