// The places to try for one destination, in order, with what protection each demands: configured hosts, or the MX hosts
// of a domain with DANE (RFC 7672) and MTA-STS (RFC 8461) applied. Names are resolved one host at a time, when their
// turn comes. Hosts that failed a short while ago are tried last.
import type { Dns } from '../plugin/contract.ts';
import { lookUpTlsa } from './dane.ts';
import type { MtaSts } from './mta-sts.ts';
import { stsAllows } from './mta-sts.ts';
import { lookUpAddresses, lookUpMx } from './mx.ts';
import { failedOutcome, type RelayOutcome, troubleOutcome } from './outcome.ts';
import type { NextHop, RelayTarget } from './route.ts';
import type { TlsPolicy } from './tls-policy.ts';

export interface Candidate {
  /** IP address, or path of a socket. */
  readonly address: string;
  readonly port: number;
  readonly host: string;
  readonly policy: TlsPolicy;
}

/** A host whose addresses are not known yet. */
export interface PlannedHost {
  readonly host: string;
  readonly port: number;
  /** The name came from a validated answer, or from the configuration. */
  readonly secure: boolean;
}

export interface PlanParts {
  readonly dns: Dns;
  readonly mtaSts?: MtaSts;
  readonly families: readonly (4 | 6)[];
  readonly isOwnName: (name: string) => boolean;
  readonly random: () => number;
}

export type HostPlan =
  | { readonly kind: 'hosts'; readonly hosts: readonly PlannedHost[] }
  | { readonly kind: 'outcome'; readonly outcome: RelayOutcome };

const outcome = (value: RelayOutcome): HostPlan => ({ kind: 'outcome', outcome: value });

/** Hosts of a target for a recipient domain. */
export async function planHosts(
  parts: PlanParts,
  target: RelayTarget,
  domain: string,
  signal: AbortSignal,
): Promise<HostPlan> {
  if (target.hosts.length === 0) return byMx(parts, { host: domain, port: 25, mx: true }, signal);
  const hosts: PlannedHost[] = [];
  let last: HostPlan | undefined;
  for (const hop of target.hosts) {
    if (!hop.mx) hosts.push({ host: hop.host, port: hop.port, secure: true });
    else {
      last = await byMx(parts, hop, signal);
      if (last.kind === 'hosts') hosts.push(...last.hosts);
    }
  }
  return hosts.length > 0 || !last ? { kind: 'hosts', hosts } : last;
}

async function byMx(parts: PlanParts, hop: NextHop, signal: AbortSignal): Promise<HostPlan> {
  const answer = await lookUpMx(parts.dns, hop.host, parts.isOwnName, parts.random, signal);
  switch (answer.kind) {
    case 'tempfail':
      return outcome(troubleOutcome(answer.why, '4.4.3'));
    // RFC 7505 §4.1.
    case 'null-mx':
      return outcome({
        kind: 'failed',
        reply: { code: 550, enhanced: '5.1.10', text: 'Recipient domain takes no mail' },
        why: `${hop.host} has a null MX`,
      });
    case 'loop':
      return outcome(failedOutcome('5.4.6', 'Mail loops back', `Best MX of ${hop.host} is this host`));
    case 'hosts':
      return {
        kind: 'hosts',
        hosts: answer.hosts.map(({ name }) => ({ host: name, port: hop.port, secure: answer.secure })),
      };
  }
}

export type Addresses =
  | { readonly kind: 'candidates'; readonly candidates: readonly Candidate[] }
  /** This host cannot be used; `permanent`: it does not exist. */
  | { readonly kind: 'unusable'; readonly permanent: boolean; readonly why: string };

/** Addresses and protection of one host. `stsDomain`: the domain whose MX it is. */
export async function planAddresses(
  parts: PlanParts,
  target: RelayTarget,
  planned: PlannedHost,
  stsDomain: string | undefined,
  signal: AbortSignal,
): Promise<Addresses> {
  const { host, port } = planned;
  if (host.startsWith('/'))
    return { kind: 'candidates', candidates: [{ address: host, port, host, policy: target.tls }] };
  const found = await lookUpAddresses(parts.dns, host, parts.families, signal);
  if (found.kind === 'tempfail') return { kind: 'unusable', permanent: false, why: found.why };
  if (found.kind === 'none') return { kind: 'unusable', permanent: true, why: `${host} has no address` };
  const policy = await policyFor(parts, target, planned, found.secure, stsDomain, signal);
  if (typeof policy === 'string') return { kind: 'unusable', permanent: false, why: policy };
  return { kind: 'candidates', candidates: found.addresses.map(address => ({ address, port, host, policy })) };
}

/** Why the host must not be used, or how. DANE goes before MTA-STS (RFC 8461 §2). */
async function policyFor(
  parts: PlanParts,
  target: RelayTarget,
  { host, port, secure }: PlannedHost,
  secureAddress: boolean,
  stsDomain: string | undefined,
  signal: AbortSignal,
): Promise<TlsPolicy | string> {
  // What an operator demands stays; only `opportunistic` is raised by what the domain publishes.
  if (target.tls.kind !== 'opportunistic' || stsDomain === undefined) return target.tls;
  // RFC 7672 §2.2.2: no question for TLSA records where the host's addresses are not signed.
  if (secure && secureAddress) {
    const tlsa = await lookUpTlsa(parts.dns, host, port, signal);
    if (tlsa.kind === 'tempfail') return `TLSA of ${host}: ${tlsa.why}`;
    if (tlsa.kind === 'dane') return { kind: 'dane', records: tlsa.records, names: [host, stsDomain] };
    if (tlsa.kind === 'unusable') return { kind: 'required' };
  }
  const sts = await parts.mtaSts?.policy(stsDomain);
  if (sts?.mode !== 'enforce') return target.tls;
  return stsAllows(sts, host) ? { kind: 'verified' } : `MTA-STS of ${stsDomain} does not allow ${host}`;
}
