// What can be looked at in the world around: resolver, records, block lists, the server behind, the engines.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import { readChain } from '../config/chain-entry.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { connectEndpoint, formatEndpoint, parseEndpoint } from '../lib/endpoint.ts';
import { keyRecord, parseSigningKey } from '../mail/dkim-key.ts';
import type { Dns } from '../plugin/contract.ts';
import { type RecordState, recordLine, recordState, wantedRecords } from '../setup/dns-records.ts';
import { probeBackend } from '../setup/probe-backend.ts';
import { listAnswers } from '../setup/surroundings.ts';
import { type Finding, findings } from './finding.ts';

interface ChainOptions {
  readonly name: string;
  readonly plugin: string;
  readonly options: Readonly<Record<string, unknown>>;
}

function chainOptions(config: LoadedConfig): readonly ChainOptions[] {
  return readChain(config.options.chain).entries.map(entry => ({
    name: entry.name,
    plugin: entry.plugin,
    options: (entry.options ?? {}) as Readonly<Record<string, unknown>>,
  }));
}

// ---- resolver

export async function checkResolver(dns: Dns): Promise<readonly Finding[]> {
  const { ok, fail } = findings('resolver');
  const nobody = `postern-doctor-${randomBytes(8).toString('hex')}.com`;
  const answer = await dns.a(nobody);
  const subject = dns.servers.join(', ');
  if (answer.kind === 'tempfail')
    return [
      fail(
        subject,
        `does not answer: ${answer.why}`,
        'Run a resolver of your own (apt install unbound) and name it: dns: { servers: [127.0.0.1] }',
      ),
    ];
  if (answer.kind === 'found')
    return [
      fail(
        subject,
        `gives ${answer.records[0]} for '${nobody}', which does not exist`,
        'It changes answers, so that block lists hit everything: run a resolver of your own (apt install unbound)',
      ),
    ];
  return [ok(subject, 'says of a name that does not exist that it does not')];
}

// ---- records

interface SigningKey {
  readonly domain: string;
  readonly selector: string;
  readonly record: string;
}

function signingKeys(config: LoadedConfig): {
  readonly keys: readonly SigningKey[];
  readonly broken: readonly Finding[];
} {
  const { fail } = findings('dns');
  const keys: SigningKey[] = [];
  const broken: Finding[] = [];
  for (const { options } of chainOptions(config).filter(each => each.plugin === 'dkim-sign')) {
    const given = (options['keys'] ?? []) as readonly { domain: string; selector: string; key: string }[];
    for (const { domain, selector, key } of given) {
      const file = path.resolve(config.folder, key);
      try {
        keys.push({ domain, selector, record: keyRecord(parseSigningKey(readFileSync(file, 'utf8'), file)) });
      } catch (error) {
        broken.push(fail(file, (error as Error).message, `postern dkim keygen ${domain} ${selector}`));
      }
    }
  }
  return { keys, broken };
}

function recordFinding({ record, state, found }: RecordState): Finding {
  const { ok, warn, fail } = findings('dns');
  const subject = `${record.type} ${record.name}`;
  if (state === 'live') return ok(subject, found.join(' | ').slice(0, 80));
  if (state === 'unknown') return warn(subject, 'the resolver does not answer now', 'Ask again later');
  const fix = `${record.why}. Publish: ${recordLine(record)}`;
  const detail = state === 'missing' ? 'is not published' : `is published as ${found.join(' | ').slice(0, 120)}`;
  return record.optional ? warn(subject, detail, fix) : fail(subject, detail, fix);
}

export async function checkRecords(config: LoadedConfig, dns: Dns): Promise<readonly Finding[]> {
  const { fail } = findings('dns');
  const hostname = (config.options.hostname ?? machineName()).toLowerCase();
  const [four, six] = await Promise.all([dns.a(hostname), dns.aaaa(hostname)]);
  const addresses = [four, six].flatMap(answer => (answer.kind === 'found' ? answer.records : []));
  const { keys, broken } = signingKeys(config);
  const wanted = wantedRecords({
    hostname,
    domains: config.options.domains.map(domain => domain.name),
    addresses,
    sends:
      keys.length > 0 ||
      config.options.relayNetworks.length > 0 ||
      config.options.listeners.some(each => each.role === 'submission'),
    dkim: keys,
  });
  const states = await Promise.all(wanted.map(record => recordState(dns, record)));
  const nameless =
    addresses.length > 0
      ? []
      : [
          fail(
            `A ${hostname}`,
            'the gateway has no address in DNS',
            `Publish an A record for ${hostname}, or correct hostname`,
          ),
        ];
  return [...nameless, ...broken, ...states.map(recordFinding)];
}

// ---- block lists

export async function checkLists(config: LoadedConfig, dns: Dns): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('dnsbl');
  const zones = chainOptions(config)
    .filter(each => each.plugin === 'dnsbl')
    .flatMap(
      each => (each.options['lists'] ?? []) as readonly { zone: string; key?: unknown; type?: string; kind?: string }[],
    )
    // A list with a key, or of domains, has names of its own to ask.
    .filter(each => each.key === undefined && (each.type ?? each.kind ?? 'ip') === 'ip');
  return Promise.all(
    zones.map(async ({ zone }) => {
      const answer = await listAnswers(dns, zone);
      if (answer === 'yes') return ok(zone, '127.0.0.2 is listed, 127.0.0.1 is not');
      if (answer === 'refused')
        return fail(
          zone,
          'refuses this resolver',
          'It does not serve public resolvers: run one of your own (apt install unbound) and name it under dns.servers',
        );
      if (answer === 'lies')
        return fail(
          zone,
          '127.0.0.1 is listed, or the answer is no list code',
          'The list is gone or the resolver changes answers: take it out',
        );
      return warn(
        zone,
        '127.0.0.2 is not listed',
        'The list does not answer here; it finds nothing. Is it still served? Do you need a key?',
      );
    }),
  );
}

// ---- the server behind

export async function checkBackends(config: LoadedConfig, clock: Clock): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('backend');
  const helo = config.options.hostname ?? machineName();
  const found: Finding[] = [];
  for (const route of config.options.routes.filter(each => each.protocol === 'smtp' && !each.implicitTls))
    for (const text of route.hosts) {
      const endpoint = parseEndpoint(text, 25);
      if (endpoint?.kind !== 'tcp') continue;
      const subject = `${formatEndpoint(endpoint)} for ${route.domain}`;
      const relayed = config.options.domains.some(domain => domain.kind === 'relay' && domain.name === route.domain);
      const probe = await probeBackend({ ...endpoint, helo, domains: relayed ? [route.domain] : [], clock });
      if (probe.kind === 'failed') {
        found.push(
          fail(
            subject,
            `not reached: ${probe.why}`,
            'Is it up? Does a firewall stand between? Mail waits in the queue meanwhile',
          ),
        );
        continue;
      }
      const { certificate, recipients, size, software } = probe.facts;
      found.push(ok(subject, `${software}, ${probe.facts.banner.slice(0, 60)}`));
      if (['required', 'verified', 'pinned'].includes(route.tls) && !certificate)
        found.push(
          fail(
            subject,
            'offers no TLS, and the route demands it',
            'Give it a certificate, or set tls: opportunistic for this route',
          ),
        );
      if (route.tls === 'verified' && certificate?.refusal !== undefined)
        found.push(
          fail(
            subject,
            `its certificate does not verify: ${certificate.refusal}`,
            `Renew it there, or pin it: tls: pinned, fingerprint: "${certificate.fingerprint}"`,
          ),
        );
      const plain = (print: string): string => print.replaceAll(':', '').toLowerCase();
      if (route.tls === 'pinned' && certificate && plain(certificate.fingerprint) !== plain(route.fingerprint ?? ''))
        found.push(
          fail(
            subject,
            'shows another certificate than the pinned one',
            `If you changed it there: fingerprint: "${certificate.fingerprint}". If not, somebody is in between`,
          ),
        );
      if (size !== undefined && size < config.options.message.maxSize)
        found.push(
          warn(
            subject,
            `takes ${size} bytes, the gateway ${config.options.message.maxSize}`,
            `message: { maxSize: ${size} } refuses what it would refuse, without sending it`,
          ),
        );
      for (const { domain, answer, reply } of recipients) {
        if (answer === 'accepts-all')
          found.push(
            warn(
              subject,
              'takes recipients that do not exist',
              'Let it refuse them in the session (exchange-install.ps1 does), or give the gateway a list of recipients',
            ),
          );
        if (answer === 'not-its-domain')
          found.push(fail(subject, `does not take mail for ${domain}: ${reply}`, 'Make it an accepted domain there'));
        if (answer === 'cannot-say')
          found.push(
            warn(subject, `cannot say whether a recipient exists: ${reply}`, 'Ask again later; look at its log'),
          );
      }
    }
  return found;
}

// ---- engines

const enginePorts: Readonly<Record<string, number>> = { clamav: 3310, spamassassin: 783, rspamd: 11_333 };

export async function checkEngines(config: LoadedConfig, clock: Clock): Promise<readonly Finding[]> {
  const { ok, fail } = findings('engines');
  const wanted = chainOptions(config).flatMap(({ name, plugin, options }) =>
    plugin === 'milter' || enginePorts[plugin] !== undefined
      ? ((options['hosts'] ?? []) as readonly string[]).map(host => ({ name, host, port: enginePorts[plugin] }))
      : [],
  );
  return Promise.all(
    wanted.map(async ({ name, host, port }) => {
      const endpoint = parseEndpoint(host, port);
      if (!endpoint) return fail(`${name} ${host}`, 'is no address', `postern config explain chain.${name}.hosts`);
      try {
        const socket = await connectEndpoint(endpoint, {
          signal: new AbortController().signal,
          clock,
          connectMs: 3_000,
        });
        socket.destroy();
        return ok(`${name} ${host}`, 'listens');
      } catch (error) {
        return fail(
          `${name} ${host}`,
          (error as Error).message,
          'Start the engine, or correct hosts; may the user of the gateway open its socket?',
        );
      }
    }),
  );
}

// ---- directory

export interface DirectoryFacts {
  readonly name: string;
  readonly addresses: number;
  /** ms since the epoch; 0 = never. */
  readonly syncedAt: number;
  /** What is wrong with it. */
  readonly why?: string;
}

/** As the running gateway tells of them; undefined where it does not run. */
export function checkDirectories(
  config: LoadedConfig,
  facts: readonly DirectoryFacts[] | undefined,
): readonly Finding[] {
  const { ok, warn, fail, skip } = findings('directory');
  return config.options.directories.map(({ name, urls, domain }) => {
    const subject = `${name} (${domain ?? urls.join(', ')})`;
    const known = facts?.find(each => each.name === name);
    if (!known) return skip(subject, 'the running gateway knows', 'Start the gateway and ask again');
    const detail = `${known.addresses} addresses, read ${known.syncedAt === 0 ? 'never' : new Date(known.syncedAt).toISOString().slice(0, 19)}`;
    if (known.addresses === 0)
      return fail(
        subject,
        `${detail}${known.why === undefined ? '' : `: ${known.why}`}`,
        'May bindDn read proxyAddresses? Is the password right? postern recipients sync says more',
      );
    if (known.why !== undefined)
      return warn(
        subject,
        `${detail}: ${known.why}`,
        'The copy serves meanwhile; see that the directory can be reached again',
      );
    return ok(subject, detail);
  });
}
