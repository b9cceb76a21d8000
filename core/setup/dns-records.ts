// The DNS records that a domain behind this gateway needs, and what of them is live. `setup` prints them, `doctor` checks.
import { isIPv6 } from 'node:net';
import { zoneLine } from '../cli/dkim-command.ts';
import type { Dns } from '../plugin/contract.ts';

export interface WantedRecord {
  readonly name: string;
  readonly type: 'A' | 'AAAA' | 'MX' | 'TXT' | 'PTR' | 'CNAME';
  readonly value: string;
  /** Why it is needed, or what happens without it. */
  readonly why: string;
  /** Mail works without it. */
  readonly optional?: true;
}

export interface RecordState {
  readonly record: WantedRecord;
  /** `differs`: something else is published. `unknown`: the resolver does not answer. */
  readonly state: 'live' | 'missing' | 'differs' | 'unknown';
  readonly found: readonly string[];
}

export interface DnsWish {
  readonly hostname: string;
  readonly domains: readonly string[];
  /** By which the world reaches us. */
  readonly addresses: readonly string[];
  /** Mail is sent from here, too. */
  readonly sends: boolean;
  readonly dkim: readonly { readonly domain: string; readonly selector: string; readonly record: string }[];
}

export function wantedRecords({ hostname, domains, addresses, sends, dkim }: DnsWish): readonly WantedRecord[] {
  const records: WantedRecord[] = [];
  for (const address of addresses) {
    records.push({
      name: hostname,
      type: isIPv6(address) ? 'AAAA' : 'A',
      value: address,
      why: 'The name of the gateway',
    });
    if (sends)
      records.push({
        name: address,
        type: 'PTR',
        value: hostname,
        why: 'Many refuse mail from an address without a name; set by whoever gave you the address',
      });
  }
  for (const domain of domains) {
    records.push({
      name: domain,
      type: 'MX',
      value: `10 ${hostname}`,
      why: 'Mail of the world comes here; publish it last',
    });
    records.push(
      sends
        ? {
            name: domain,
            type: 'TXT',
            value: 'v=spf1 mx -all',
            why: 'SPF: who may send for the domain; add what else sends',
          }
        : {
            name: domain,
            type: 'TXT',
            value: 'v=spf1 include:WHOEVER-SENDS -all',
            why: 'SPF: name what sends for the domain; this gateway does not',
            optional: true,
          },
    );
  }
  for (const key of dkim)
    records.push({
      name: `${key.selector}._domainkey.${key.domain}`,
      type: 'TXT',
      value: key.record,
      why: 'DKIM: the key that verifies our signatures',
    });
  for (const domain of domains) {
    records.push({
      name: `_dmarc.${domain}`,
      type: 'TXT',
      value: `v=DMARC1; p=none; rua=mailto:postmaster@${domain}`,
      why: 'DMARC: begin with p=none, read the reports, go to quarantine and reject',
    });
    records.push({
      name: `_mta-sts.${domain}`,
      type: 'TXT',
      value: 'v=STSv1; id=1',
      why: `MTA-STS: senders insist on TLS; the policy stands at https://mta-sts.${domain}/.well-known/mta-sts.txt`,
      optional: true,
    });
    records.push({
      name: `_smtp._tls.${domain}`,
      type: 'TXT',
      value: `v=TLSRPTv1; rua=mailto:postmaster@${domain}`,
      why: 'TLSRPT: senders tell of TLS that failed',
      optional: true,
    });
  }
  return records;
}

/** The MTA-STS policy to go with the record (RFC 8461 §3.2). */
export const mtaStsPolicy = (hostname: string): string =>
  `version: STSv1\nmode: testing\nmx: ${hostname}\nmax_age: 604800\n`;

const versionOf = (text: string): string => /^v=([A-Za-z0-9]+)/.exec(text)?.[1]?.toUpperCase() ?? '';
const bare = (text: string): string => text.toLowerCase().replace(/\.$/, '');

/** Records of a TXT name that speak of the same thing. */
const sameTopic = (record: WantedRecord, found: readonly string[]): readonly string[] =>
  found.filter(text => versionOf(text) === versionOf(record.value) || (/\bp=/.test(record.value) && /\bp=/.test(text)));

const publicKey = (text: string): string => (/\bp=([^;]*)/.exec(text)?.[1] ?? '').replace(/\s/g, '');

/** What is published for a TXT record counts, not its wording: a policy of one's own is as good. */
function txtState(record: WantedRecord, found: readonly string[]): RecordState['state'] {
  const same = sameTopic(record, found);
  if (same.length === 0) return 'missing';
  if (record.name.includes('._domainkey.'))
    return same.some(text => publicKey(text) === publicKey(record.value)) ? 'live' : 'differs';
  // RFC 7208 §3.2 and RFC 7489 §6.6.3: two records are none.
  return same.length === 1 ? 'live' : 'differs';
}

export async function recordState(dns: Dns, record: WantedRecord): Promise<RecordState> {
  const answer = await (async () => {
    if (record.type === 'PTR') return dns.ptr(record.name);
    if (record.type === 'MX') {
      const mx = await dns.mx(record.name);
      if (mx.kind !== 'found') return mx;
      return { ...mx, records: mx.records.map(each => `${each.preference} ${each.exchange}`) };
    }
    return dns.query(record.name, record.type);
  })();
  if (answer.kind === 'tempfail') return { record, state: 'unknown', found: [] };
  const found = answer.kind === 'found' ? answer.records : [];
  if (record.type === 'TXT') return { record, state: txtState(record, found), found: sameTopic(record, found) };
  if (found.length === 0) return { record, state: 'missing', found };
  const target = (text: string): string => bare(record.type === 'MX' ? (text.split(' ')[1] ?? '') : text);
  return { record, state: found.some(each => target(each) === target(record.value)) ? 'live' : 'differs', found };
}

/** As a zone file has it; a PTR is told, for it stands in somebody else's zone. */
export function recordLine({ name, type, value }: WantedRecord): string {
  if (type === 'PTR') return `${name} → ${value}   (PTR, at your provider)`;
  if (type === 'MX') return `${name}. IN MX ${value}.`;
  return type === 'TXT' ? zoneLine(name, value) : `${name}. IN ${type} ${value}`;
}
