// DNS messages to and from bytes: RFC 1035 §4, EDNS RFC 6891. The only file that knows `dns-packet`. A response is taken
// only if it answers the very question that was asked (RFC 5452 §9.1); all else is `undefined` and nobody's answer.
import { randomInt } from 'node:crypto';
import packet from 'dns-packet';
import type { DnsRecords } from '../plugin/contract.ts';

/** For the DNS server of the test kit. */
export { default as dnsPacket } from 'dns-packet';

export type RecordType = keyof DnsRecords;

/** What a response says; `records` are those at the end of the CNAME chain, in the order of the response. */
export type WireAnswer =
  | { readonly kind: 'found'; readonly records: readonly unknown[]; readonly ttl: number; readonly secure: boolean }
  | { readonly kind: 'none'; readonly ttl: number; readonly exists?: true }
  | { readonly kind: 'failed'; readonly rcode: string }
  | { readonly kind: 'truncated' };

export interface WireQuery {
  readonly id: number;
  readonly name: string;
  readonly type: RecordType;
  readonly bytes: Buffer;
}

/** Fits every path without fragments (DNS flag day 2020); larger answers come by TCP. */
const udpPayloadSize = 1232;
/** RFC 1034 §5.2.2 asks for a limit on chains. */
const maxChain = 16;

export function encodeQuery(name: string, type: RecordType, edns: boolean): WireQuery {
  const id = randomInt(0x10000);
  const opt: packet.OptAnswer = {
    name: '.',
    type: 'OPT',
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  const bytes = packet.encode({
    type: 'query',
    id,
    // RFC 6840 §5.7: AD in a query asks a validating resolver to tell whether it validated.
    flags: packet.RECURSION_DESIRED | packet.AUTHENTIC_DATA,
    questions: [{ name, type, class: 'IN' }],
    additionals: edns ? [opt] : [],
  });
  return { id, name, type, bytes };
}

const plainName = (name: string): string => name.toLowerCase().replace(/\.$/, '');

/** Undefined for what is no answer to `query`: noise, a spoof, or bytes that are no DNS message. */
export function decodeResponse(query: WireQuery, bytes: Buffer): WireAnswer | undefined {
  let response: packet.DecodedPacket;
  try {
    response = packet.decode(bytes);
  } catch {
    return undefined;
  }
  if (response.type !== 'response' || response.id !== query.id) return undefined;
  const question = response.questions?.[0];
  const rcode = (response as { readonly rcode?: string }).rcode ?? 'NOERROR';
  // Servers that fail early (FORMERR, NOTIMP) may leave the question out.
  if (!question) return rcode === 'NOERROR' ? undefined : { kind: 'failed', rcode };
  if (question.type !== query.type || plainName(question.name) !== plainName(query.name)) return undefined;
  if (response.flag_tc) return { kind: 'truncated' };
  if (rcode === 'NXDOMAIN') return { kind: 'none', ttl: negativeTtl(response) };
  if (rcode !== 'NOERROR') return { kind: 'failed', rcode };
  return collect(query, response);
}

function collect(query: WireQuery, response: packet.DecodedPacket): WireAnswer {
  const answers = response.answers ?? [];
  let owner = plainName(query.name);
  let ttl = Number.POSITIVE_INFINITY;
  if (query.type !== 'CNAME')
    for (let hop = 0; hop < maxChain; hop++) {
      const alias = answers.find(answer => answer.type === 'CNAME' && plainName(answer.name) === owner);
      if (alias?.type !== 'CNAME') break;
      owner = plainName(alias.data);
      ttl = Math.min(ttl, alias.ttl ?? 0);
    }
  const matching = answers.filter(answer => answer.type === query.type && plainName(answer.name) === owner);
  const records: unknown[] = [];
  for (const answer of matching) {
    records.push(recordOf(answer));
    ttl = Math.min(ttl, (answer as { readonly ttl?: number }).ttl ?? 0);
  }
  if (records.length === 0) return { kind: 'none', ttl: Math.min(ttl, negativeTtl(response)), exists: true };
  return { kind: 'found', records, ttl, secure: response.flag_ad };
}

/** RFC 2308 §5: the smaller of the SOA's TTL and its MINIMUM; without a SOA a negative answer is not kept. */
function negativeTtl(response: packet.DecodedPacket): number {
  const soa = response.authorities?.find(record => record.type === 'SOA');
  return soa?.type === 'SOA' ? Math.min(soa.ttl ?? 0, soa.data.minimum ?? 0) : 0;
}

function recordOf(answer: packet.Answer): unknown {
  switch (answer.type) {
    case 'TXT': {
      const strings = Array.isArray(answer.data) ? answer.data : [answer.data];
      return Buffer.concat(strings.map(part => Buffer.from(part))).toString('utf8');
    }
    case 'MX':
      return { exchange: plainName(answer.data.exchange), preference: answer.data.preference ?? 0 };
    case 'SRV': {
      const { target, port, priority, weight } = answer.data;
      return { target: plainName(target), port, priority: priority ?? 0, weight: weight ?? 0 };
    }
    case 'CNAME':
    case 'NS':
    case 'PTR':
      return plainName(answer.data);
    case 'CAA':
      return { flags: answer.data.flags ?? 0, tag: answer.data.tag, value: answer.data.value };
    default:
      return 'data' in answer ? answer.data : undefined;
  }
}
