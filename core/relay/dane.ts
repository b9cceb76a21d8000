// DANE for SMTP: RFC 7672 on RFC 6698 and RFC 7671. TLSA records count only from answers that a validating resolver
// marked as secure, for a host name that came by secure answers as well; who asks takes care of that.
import { createHash, type X509Certificate } from 'node:crypto';
import type { Dns, DnsRecords } from '../plugin/contract.ts';

type Tlsa = DnsRecords['TLSA'];

export type TlsaLookup =
  | { readonly kind: 'dane'; readonly records: readonly Tlsa[] }
  /** Records exist but none can be used: encrypt without authentication (RFC 7672 §2.2). */
  | { readonly kind: 'unusable' }
  | { readonly kind: 'none' }
  /** RFC 7672 §2.1.2: the host must not be used now. */
  | { readonly kind: 'tempfail'; readonly why: string };

/** RFC 7672 §3.1: DANE-TA(2) and DANE-EE(3) only; full, SHA-256 or SHA-512. */
const usable = (record: Tlsa): boolean =>
  (record.usage === 2 || record.usage === 3) &&
  (record.selector === 0 || record.selector === 1) &&
  record.matchingType <= 2 &&
  record.certificate.length > 0;

/** TLSA records of `_port._tcp.host`. RFC 7672 §2.2.2. */
export async function lookUpTlsa(dns: Dns, host: string, port: number, signal?: AbortSignal): Promise<TlsaLookup> {
  const answer = await dns.query(`_${port}._tcp.${host}`, 'TLSA', signal);
  if (answer.kind === 'tempfail') return { kind: 'tempfail', why: answer.why };
  if (answer.kind === 'none' || !answer.secure) return { kind: 'none' };
  const records = answer.records.filter(usable);
  return records.length > 0 ? { kind: 'dane', records } : { kind: 'unusable' };
}

function matches(record: Tlsa, certificate: X509Certificate): boolean {
  const selected =
    record.selector === 0 ? certificate.raw : certificate.publicKey.export({ type: 'spki', format: 'der' });
  const expected = Buffer.from(record.certificate);
  if (record.matchingType === 0) return expected.equals(selected);
  return createHash(record.matchingType === 1 ? 'sha256' : 'sha512')
    .update(selected)
    .digest()
    .equals(expected);
}

const isCurrent = (certificate: X509Certificate, now: Date): boolean =>
  new Date(certificate.validFrom) <= now && now <= new Date(certificate.validTo);

/** `chain`: leaf first. `names`: what a certificate below a trust anchor must name (RFC 7672 §3.2.2). */
export function matchesTlsa(
  records: readonly Tlsa[],
  chain: readonly X509Certificate[],
  names: readonly string[],
  now: Date,
): boolean {
  const [leaf] = chain;
  if (!leaf) return false;
  // RFC 7672 §3.1.1: neither names nor dates of a DANE-EE certificate count.
  if (records.some(record => record.usage === 3 && matches(record, leaf))) return true;
  const anchorAt = chain.findIndex(each => records.some(record => record.usage === 2 && matches(record, each)));
  if (anchorAt < 0) return false;
  const signed = chain.slice(0, anchorAt).every((each, index) => {
    const issuer = chain[index + 1];
    return issuer !== undefined && each.checkIssued(issuer) && each.verify(issuer.publicKey) && isCurrent(each, now);
  });
  return signed && isCurrent(leaf, now) && names.some(name => leaf.checkHost(name, { subject: 'never' }) !== undefined);
}
