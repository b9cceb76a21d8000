// How a connection to a next hop must be protected, and whether the certificate that came fits. What the TLS library
// checks by itself serves only `verified`; pins and DANE are judged here, after the handshake and before anything but
// EHLO was sent.
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { DnsRecords } from '../plugin/contract.ts';
import { matchesTlsa } from './dane.ts';

export type Tlsa = DnsRecords['TLSA'];

export type TlsPolicy =
  /** Never. */
  | { readonly kind: 'none' }
  /** Where offered, unauthenticated; in clear where it fails (RFC 7435). */
  | { readonly kind: 'opportunistic' }
  /** Encrypted, unauthenticated. */
  | { readonly kind: 'required' }
  /** Encrypted, the certificate chains to a known root and names one of `names` (default: the host); RFC 9525. */
  | { readonly kind: 'verified'; readonly names?: readonly string[] }
  /** Encrypted, and the certificate is one of these: SHA-256 fingerprints, hexadecimal with or without colons. */
  | { readonly kind: 'pinned'; readonly fingerprints: readonly string[] }
  /** RFC 7672. */
  | { readonly kind: 'dane'; readonly records: readonly Tlsa[]; readonly names: readonly string[] };

export const demandsTls = (policy: TlsPolicy): boolean => policy.kind !== 'none' && policy.kind !== 'opportunistic';
/** The peer is known to be the right one: what REQUIRETLS asks for (RFC 8689 §4.2.1). */
export const authenticates = (policy: TlsPolicy): boolean =>
  policy.kind === 'verified' || policy.kind === 'pinned' || policy.kind === 'dane';

const plainHex = (fingerprint: string): string => fingerprint.replaceAll(/[:\s]/g, '').toLowerCase();

/** Why the certificate does not do; undefined when it does. */
export function certificateFault(policy: TlsPolicy, socket: TLSSocket): string | undefined {
  if (policy.kind === 'none' || policy.kind === 'opportunistic' || policy.kind === 'required') return undefined;
  const leaf = socket.getPeerX509Certificate();
  if (!leaf) return 'The server showed no certificate';
  switch (policy.kind) {
    case 'verified':
      if (!socket.authorized) return `Certificate is not trusted: ${String(socket.authorizationError)}`;
      return policy.names && !policy.names.some(name => matchesName(leaf, name))
        ? `Certificate names none of ${policy.names.join(', ')}`
        : undefined;
    case 'pinned': {
      const seen = plainHex(leaf.fingerprint256);
      return policy.fingerprints.some(each => plainHex(each) === seen)
        ? undefined
        : `Certificate ${seen} is not pinned`;
    }
    case 'dane':
      return matchesTlsa(policy.records, chainOf(leaf), policy.names, new Date())
        ? undefined
        : 'Certificate matches no TLSA record';
  }
}

/** `.example.org` in a list of names (MTA-STS, Postfix) stands for one label below. */
function matchesName(leaf: X509Certificate, name: string): boolean {
  return leaf.checkHost(name, { subject: 'never' }) !== undefined;
}

/** Leaf first, as far as the server sent them. */
function chainOf(leaf: X509Certificate): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  for (let at: X509Certificate | undefined = leaf; at && chain.length < 10; at = at.issuerCertificate) {
    if (chain.some(each => each.fingerprint256 === at?.fingerprint256)) break;
    chain.push(at);
  }
  return chain;
}
