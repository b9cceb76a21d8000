// Hosts of a service by its SRV records, in the order to try them (RFC 2782).
import type { Dns, DnsRecords } from '../plugin/contract.ts';

export type SrvRecord = DnsRecords['SRV'];

export type SrvAnswer =
  | {
      readonly kind: 'hosts';
      readonly hosts: readonly SrvRecord[];
      /** By a validated answer. */
      readonly secure: boolean;
    }
  /** No such record, or RFC 2782 "Target": the only one is `.`, the service is decidedly not there. */
  | { readonly kind: 'none' }
  | { readonly kind: 'tempfail'; readonly why: string };

/** `name` as `_service._proto.domain`; `random` in [0, 1). */
export async function lookUpSrv(
  dns: Dns,
  name: string,
  random: () => number,
  signal?: AbortSignal,
): Promise<SrvAnswer> {
  const answer = await dns.query(name, 'SRV', signal);
  if (answer.kind === 'tempfail') return { kind: 'tempfail', why: `SRV of ${name}: ${answer.why}` };
  const records = answer.kind === 'found' ? answer.records.filter(({ target }) => target !== '') : [];
  if (records.length === 0) return { kind: 'none' };
  return { kind: 'hosts', hosts: srvOrder(records, random), secure: answer.kind === 'found' && answer.secure };
}

/** Lower priority first; among equals by chance in the ratio of their weights. */
export function srvOrder(records: readonly SrvRecord[], random: () => number): readonly SrvRecord[] {
  const ordered: SrvRecord[] = [];
  for (const priority of [...new Set(records.map(record => record.priority))].sort((a, b) => a - b)) {
    // RFC 2782 "Weight": those of weight 0 stand first, so that they hardly ever come before others.
    const left = records.filter(record => record.priority === priority).sort((a, b) => a.weight - b.weight);
    while (left.length > 0) {
      const total = left.reduce((sum, { weight }) => sum + weight, 0);
      const drawn = Math.floor(random() * (total + 1));
      let sum = 0;
      const at = left.findIndex(({ weight }) => {
        sum += weight;
        return sum >= drawn;
      });
      ordered.push(...left.splice(Math.max(at, 0), 1));
    }
  }
  return ordered;
}
