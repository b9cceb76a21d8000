// From flags and questions to the answers: asks only what no flag said, and probes the server behind in between, since
// what it shows decides what else must be asked.
import { createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import { UsageError } from '../cli/context.ts';
import { makeKey, writeKey } from '../cli/dkim-command.ts';
import { parseEndpoint } from '../lib/endpoint.ts';
import { parseDomain } from '../mail/address.ts';
import { keyRecord } from '../mail/dkim-key.ts';
import { type Answers, type DkimAnswer, type Kind, kinds } from './answers.ts';
import { directoryOf, type SecretFile } from './collect-directory.ts';
import { type Collector, domainFault, obtain } from './collector.ts';
import { type BackendFacts, probeBackend } from './probe-backend.ts';
import { findEngines, listAnswers, ownAddresses } from './surroundings.ts';

const isKind = (text: string): text is Kind => (kinds as readonly string[]).includes(text);
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

export interface Collected {
  readonly answers: Answers;
  /** To be stored when the configuration is. */
  readonly secret?: SecretFile;
}

export async function collectAnswers(collector: Collector): Promise<Collected> {
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
  const answers: Answers = {
    kind,
    hostname: parseDomain(hostname) ?? hostname,
    domains,
    dataDir,
    ...(backend ? { backend } : {}),
    ...(directory ? { directory: directory.answer } : {}),
    pin,
    listen: at,
    ...(outbound.port === undefined ? {} : { outboundPort: outbound.port }),
    backendNetworks: outbound.networks,
    engines,
    dnsbl: list === 'yes',
    dkim: sign ? await keysOf(collector, domains) : [],
    addresses,
  };
  return { answers, ...(directory?.secret ? { secret: directory.secret } : {}) };
}
