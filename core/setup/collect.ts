// From flags and questions to the answers: asks only what no flag said, and probes the server behind in between, since
// what it shows decides what else must be asked.
import { createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import { type CliContext, UsageError } from '../cli/context.ts';
import { makeKey, writeKey } from '../cli/dkim-command.ts';
import { parseEndpoint } from '../lib/endpoint.ts';
import { parseDomain } from '../mail/address.ts';
import { keyRecord } from '../mail/dkim-key.ts';
import type { Dns } from '../plugin/contract.ts';
import { type Answers, type DirectoryAnswer, type DkimAnswer, type Kind, kinds } from './answers.ts';
import { type BackendFacts, probeBackend } from './probe-backend.ts';
import { probeDirectory } from './probe-directory.ts';
import type { Questions } from './questions.ts';
import { findEngines, listAnswers, ownAddresses } from './surroundings.ts';

export interface SetupFlags {
  readonly kind?: string;
  readonly hostname?: string;
  readonly domain?: readonly string[];
  readonly backend?: string;
  readonly listen?: string;
  readonly outbound?: string | false;
  readonly network?: readonly string[];
  readonly address?: readonly string[];
  readonly data?: string;
  readonly ldap?: string;
  readonly ldapBind?: string;
  readonly ldapPasswordFile?: string;
  readonly ldapCa?: string;
  readonly pin?: boolean;
  readonly dkim?: boolean;
}

export interface Collector {
  readonly context: CliContext;
  readonly flags: SetupFlags;
  readonly questions: Questions;
  /** Nobody can be asked. */
  readonly silent: boolean;
  readonly dns: Dns;
  /** Where the configuration goes. */
  readonly configFile: string;
  say(line: string): void;
}

const isKind = (text: string): text is Kind => (kinds as readonly string[]).includes(text);
const domainFault = (name: string): string | undefined =>
  name.includes('.') && !name.startsWith('[') && parseDomain(name) !== undefined
    ? undefined
    : `'${name}' is no domain name`;

function checked(value: string, flag: string, check: (text: string) => string | undefined): string {
  const fault = value === '' ? `is needed` : check(value);
  if (fault === undefined) return value;
  throw new UsageError(value === '' ? `${flag} is needed (or a terminal to ask on)` : `${flag}: ${fault}`);
}

/** The flag, or the answer to the question; without a terminal the default. */
async function obtain(
  { questions, silent }: Collector,
  given: string | undefined,
  flag: string,
  question: string,
  fallback: string,
  check: (text: string) => string | undefined = () => undefined,
): Promise<string> {
  if (given !== undefined) return checked(given, flag, check);
  return silent ? checked(fallback, flag, check) : questions.ask(question, fallback, check);
}

const splitNames = (text: string): readonly string[] => text.split(/[\s,]+/).filter(name => name !== '');

async function domainsOf(collector: Collector, hostname: string): Promise<readonly string[]> {
  const parent = hostname.split('.').slice(1).join('.');
  const { flags } = collector;
  const text = await obtain(
    collector,
    flags.domain && flags.domain.length > 0 ? flags.domain.join(' ') : undefined,
    '--domain',
    'Domains that mail comes for, separated by blanks',
    parent.includes('.') ? parent : '',
    answer =>
      splitNames(answer)
        .map(domainFault)
        .find(fault => fault !== undefined),
  );
  return [...new Set(splitNames(text).map(name => parseDomain(name) ?? name))];
}

function describe({ say }: Collector, host: string, facts: BackendFacts): void {
  const names = {
    exchange: 'Microsoft Exchange',
    microsoft365: 'Microsoft 365',
    postfix: 'Postfix',
    exim: 'Exim',
    postern: 'Postern',
    other: 'a mail server',
  };
  say(`  ${host} is ${names[facts.software]}: ${facts.banner}`);
  say(
    `  Extensions: ${facts.extensions.join(' ')}${facts.size === undefined ? '' : ` (messages up to ${Math.round(facts.size / 1_048_576)} MiB)`}`,
  );
  const { certificate } = facts;
  if (!certificate) say('  TLS: not offered');
  else {
    const until = new Date(certificate.notAfter).toISOString().slice(0, 10);
    say(
      `  TLS: certificate of ${certificate.subject}, by ${certificate.issuer}, until ${until}${certificate.refusal === undefined ? ', verifies' : `, does not verify (${certificate.refusal})`}`,
    );
    say(`  SHA-256 ${certificate.fingerprint}`);
  }
  say(facts.extensions.includes('XCLIENT') ? '  XCLIENT: yes, it will see the real client' : '  XCLIENT: no');
  const words = {
    'refuses-unknown': 'refuses unknown recipients: good, so will the gateway',
    'accepts-all': 'takes every recipient: unknown ones cannot be refused until it is told to',
    'not-its-domain': 'does not take mail for it',
    'cannot-say': 'cannot say now whether a recipient exists',
  };
  for (const { domain, answer, reply } of facts.recipients) say(`  ${domain}: ${words[answer]} (${reply})`);
}

async function backendOf(collector: Collector, kind: Kind, hostname: string, domains: readonly string[]) {
  const { context, flags, say } = collector;
  const suggested =
    kind === 'microsoft365' ? `${(domains[0] ?? '').replaceAll('.', '-')}.mail.protection.outlook.com` : '';
  const fault = (text: string): string | undefined =>
    parseEndpoint(text, 25)?.kind === 'tcp'
      ? undefined
      : `'${text}' is no host: expected host, host:port or [address]:port`;
  const text = await obtain(
    collector,
    flags.backend,
    '--backend',
    'The server behind (host or host:port)',
    suggested,
    fault,
  );
  const endpoint = parseEndpoint(text, 25);
  if (endpoint?.kind !== 'tcp') throw new UsageError(`--backend: ${fault(text)}`);
  const { host, port } = endpoint;
  say(`Probing ${host} port ${port} …`);
  const probe = await probeBackend({ host, port, helo: hostname, domains, clock: context.clock });
  if (probe.kind === 'failed') {
    say(`  Not reached: ${probe.why}. The configuration is written all the same; 'postern doctor' asks again.`);
    return { host, port };
  }
  describe(collector, host, probe.facts);
  return { host, port, facts: probe.facts };
}

/** An Active Directory that knows the recipients; asked for before an Exchange only. */
async function directoryOf(
  collector: Collector,
  kind: Kind,
  domains: readonly string[],
): Promise<DirectoryAnswer | undefined> {
  const { flags, silent, questions, say, configFile } = collector;
  const fault = (text: string): string | undefined =>
    text === 'none' || /^ldaps?:\/\/[^/\s]+\/?$/.test(text)
      ? undefined
      : `'${text}' is neither ldap://host, ldaps://host nor none`;
  if (kind === 'local' || (flags.ldap === undefined && (silent || kind !== 'exchange'))) return undefined;
  const url = await obtain(
    collector,
    flags.ldap,
    '--ldap',
    'Active Directory with the recipients (ldaps://dc1.corp.example)',
    'none',
    fault,
  );
  if (url === 'none') return undefined;
  const asked =
    flags.ldapBind ??
    (silent || flags.ldap !== undefined
      ? ''
      : await questions.ask('User that may read it (user@corp.example)', 'anonymous'));
  const bindDn = asked === '' || asked === 'anonymous' ? undefined : asked;
  const file =
    bindDn === undefined
      ? undefined
      : await obtain(
          collector,
          flags.ldapPasswordFile,
          '--ldap-password-file',
          'File with its password',
          path.join(path.dirname(configFile), 'ldap-password'),
        );
  const directory: DirectoryAnswer = {
    url,
    ...(bindDn === undefined ? {} : { bindDn }),
    ...(file === undefined ? {} : { passwordFile: path.resolve(collector.context.workingFolder, file) }),
    ...(flags.ldapCa === undefined ? {} : { caFile: path.resolve(collector.context.workingFolder, flags.ldapCa) }),
  };
  say(`Reading ${url} …`);
  const probe = await probeDirectory(directory, directory.passwordFile, domains);
  if (probe.kind === 'failed') say(`  Not read: ${probe.why}. 'postern doctor' asks again.`);
  else {
    say(`  ${probe.count} addresses, such as ${probe.samples.join(', ')}`);
    for (const domain of probe.empty) say(`  None of them in ${domain}: all its mail would be refused`);
  }
  return directory;
}

async function pinOf({ flags, questions }: Collector, facts: BackendFacts | undefined): Promise<boolean> {
  const certificate = facts?.certificate;
  if (!certificate) return false;
  if (flags.pin !== undefined) return flags.pin;
  if (certificate.refusal === undefined) return false;
  return questions.confirm('Trust this certificate and no other (pin it)?', true);
}

async function networksOf({ flags, dns }: Collector, host: string): Promise<readonly string[]> {
  if (flags.network && flags.network.length > 0) return flags.network;
  if (/^[0-9.]+$|:/.test(host)) return [host];
  const [four, six] = await Promise.all([dns.a(host), dns.aaaa(host)]);
  return [four, six].flatMap(answer => (answer.kind === 'found' ? answer.records : []));
}

/** A key for each domain, beside the configuration; one that is there is used. */
async function keysOf(collector: Collector, domains: readonly string[]): Promise<readonly DkimAnswer[]> {
  const { context, configFile } = collector;
  const selector = `${new Date(context.clock.now()).getUTCFullYear()}a`;
  const folder = path.join(path.dirname(configFile), 'dkim');
  const keys: DkimAnswer[] = [];
  for (const domain of domains) {
    const file = path.join(folder, `${domain}.${selector}.pem`);
    if (!existsSync(file)) await writeKey(file, makeKey({}));
    const record = keyRecord(createPrivateKey(readFileSync(file)));
    keys.push({ domain, selector, file: path.relative(path.dirname(configFile), file), record });
  }
  return keys;
}

async function outboundOf(collector: Collector, kind: Kind, host: string) {
  const { flags, questions } = collector;
  // Microsoft 365 sends from far too many addresses for a rule by address.
  if (kind === 'local' || kind === 'microsoft365' || flags.outbound === false) return { networks: [] };
  const wanted =
    flags.outbound !== undefined || (await questions.confirm('Does it send its outgoing mail through here?', true));
  if (!wanted) return { networks: [] };
  const port = Number(flags.outbound ?? 2525);
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new UsageError(`--outbound: '${flags.outbound}' is no port`);
  return { port, networks: await networksOf(collector, host) };
}

async function listenOf(collector: Collector): Promise<Answers['listen']> {
  const read = (text: string): Answers['listen'] | undefined => {
    const endpoint = parseEndpoint(text, 25);
    return endpoint?.kind === 'tcp' && isIP(endpoint.host) !== 0
      ? { address: endpoint.host, port: endpoint.port }
      : undefined;
  };
  const question = 'Address and port for mail of the world';
  const fault = (text: string): string | undefined => (read(text) ? undefined : `'${text}' is no address and port`);
  const text = await obtain(collector, collector.flags.listen, '--listen', question, '0.0.0.0:25', fault);
  return read(text) ?? { address: '0.0.0.0', port: 25 };
}

export async function collectAnswers(collector: Collector): Promise<Answers> {
  const { context, flags, questions, say, dns } = collector;
  const kind = await obtain(
    collector,
    flags.kind,
    '--kind',
    `What is behind: ${kinds.join(', ')}`,
    flags.backend === undefined ? '' : 'exchange',
    text => (isKind(text) ? undefined : `'${text}' is none of ${kinds.join(', ')}`),
  );
  if (!isKind(kind)) throw new UsageError(`--kind: '${kind}'`);
  const machine = machineName();
  const hostname = await obtain(
    collector,
    flags.hostname,
    '--hostname',
    'Name of this gateway, as the world knows it',
    machine.includes('.') ? machine : '',
    domainFault,
  );
  const domains = await domainsOf(collector, hostname);
  const backend = kind === 'local' ? undefined : await backendOf(collector, kind, hostname, domains);
  const directory = await directoryOf(collector, kind, domains);
  const pin = await pinOf(collector, backend?.facts);
  const outbound = await outboundOf(collector, kind, backend?.host ?? '');
  const at = await listenOf(collector);
  const dataDir = await obtain(
    collector,
    flags.data,
    '--data',
    'Folder for mail, queue and state',
    process.getuid?.() === 0 ? '/var/lib/postern' : 'data',
  );
  const sends = kind === 'local' || outbound.port !== undefined;
  const sign = sends && (flags.dkim ?? (await questions.confirm('Sign outgoing mail (DKIM)?', true)));
  say('Looking around …');
  const [engines, list] = await Promise.all([findEngines(context.clock), listAnswers(dns, 'zen.spamhaus.org')]);
  say(
    `  Engines here: ${engines.map(each => `${each.plugin} at ${each.endpoint}`).join(', ') || 'none; clamav-daemon and rspamd are worth installing'}`,
  );
  say(
    `  zen.spamhaus.org: ${{ yes: 'answers', refused: 'refuses this resolver (public ones are not served)', lies: 'the resolver changes its answers', no: 'does not answer here' }[list]}`,
  );
  const addresses = flags.address && flags.address.length > 0 ? flags.address : ownAddresses().slice(0, 1);
  return {
    kind,
    hostname: parseDomain(hostname) ?? hostname,
    domains,
    dataDir,
    ...(backend ? { backend } : {}),
    ...(directory ? { directory } : {}),
    pin,
    listen: at,
    ...(outbound.port === undefined ? {} : { outboundPort: outbound.port }),
    backendNetworks: outbound.networks,
    engines,
    dnsbl: list === 'yes',
    dkim: sign ? await keysOf(collector, domains) : [],
    addresses,
  };
}
