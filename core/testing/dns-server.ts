// A real DNS server on loopback, UDP and TCP on one free port, with zones from objects and faults on demand.
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import type { AddressInfo, Server } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { dnsPacket as packet } from '../net/dns-wire.ts';

/** What happens instead of an answer. `truncate`: UDP says TC and has nothing, TCP answers. */
export type DnsFault = 'servfail' | 'refused' | 'timeout' | 'garbage' | 'truncate' | 'formerr-on-edns';

export interface DnsNode {
  readonly A?: readonly string[];
  readonly AAAA?: readonly string[];
  readonly TXT?: readonly (string | readonly string[])[];
  readonly MX?: readonly { readonly exchange: string; readonly preference: number }[];
  readonly CNAME?: string;
  readonly PTR?: readonly string[];
  readonly NS?: readonly string[];
  readonly SRV?: readonly packet.SrvData[];
  readonly TLSA?: readonly packet.TlsaData[];
  /** Seconds; default 300. */
  readonly ttl?: number;
  readonly fault?: DnsFault;
}
/** By name in lower case; `*.example.org` stands for all names below that have no node of their own. */
export type Zone = Readonly<Record<string, DnsNode>>;

export interface DnsServer {
  /** `127.0.0.1:port` */
  readonly address: string;
  /** `TYPE name` of every question, in order of arrival. */
  readonly asked: string[];
  /** Replaces all zones. */
  setZone(zone: Zone): void;
  /** For all names, until called again without one. */
  setFault(fault?: DnsFault): void;
  /** Sets the AD bit in answers. */
  setSecure(secure: boolean): void;
  close(): Promise<void>;
}

type Reply = Buffer | undefined;
interface State {
  zone: Zone;
  fault: DnsFault | undefined;
  secure: boolean;
  readonly asked: string[];
}

const negativeTtl = 60;

function nodeOf(zone: Zone, name: string): DnsNode | undefined {
  if (zone[name]) return zone[name];
  const labels = name.split('.');
  for (let skip = 1; skip < labels.length; skip++) {
    const wild = zone[`*.${labels.slice(skip).join('.')}`];
    if (wild) return wild;
  }
  return undefined;
}

const exists = (zone: Zone, name: string): boolean =>
  nodeOf(zone, name) !== undefined || Object.keys(zone).some(other => other.endsWith(`.${name}`));

function recordsOf(zone: Zone, name: string, type: string): packet.Answer[] {
  const node = nodeOf(zone, name);
  if (!node) return [];
  const ttl = node.ttl ?? 300;
  if (node.CNAME !== undefined && type !== 'CNAME') {
    const alias: packet.Answer = { name, type: 'CNAME', ttl, data: node.CNAME };
    return [alias, ...recordsOf(zone, node.CNAME.toLowerCase(), type)];
  }
  const data = node[type as keyof DnsNode];
  const list = Array.isArray(data) ? data : data === undefined ? [] : [data];
  return list.map(value => ({ name, type, ttl, data: value }) as packet.Answer);
}

function answer(state: State, bytes: Buffer, overTcp: boolean): Reply {
  const query = packet.decode(bytes);
  const question = query.questions?.[0];
  if (!question) return undefined;
  const name = question.name.toLowerCase();
  state.asked.push(`${question.type} ${name}`);
  const fault = state.fault ?? nodeOf(state.zone, name)?.fault;
  const base = { type: 'response', id: query.id, questions: query.questions } as const;
  const flags = packet.RECURSION_DESIRED | packet.RECURSION_AVAILABLE | (state.secure ? packet.AUTHENTIC_DATA : 0);
  if (fault === 'timeout') return undefined;
  if (fault === 'garbage') return Buffer.from('this is no DNS message at all, whatever its length');
  if (fault === 'servfail') return packet.encode({ ...base, flags: flags | 2 });
  if (fault === 'refused') return packet.encode({ ...base, flags: flags | 5 });
  if (fault === 'formerr-on-edns' && query.additionals?.some(record => record.type === 'OPT'))
    return packet.encode({ type: 'response', id: query.id, flags: flags | 1 });
  if (fault === 'truncate' && !overTcp) return packet.encode({ ...base, flags: flags | packet.TRUNCATED_RESPONSE });
  const answers = recordsOf(state.zone, name, question.type);
  if (answers.some(record => record.type === question.type)) return packet.encode({ ...base, flags, answers });
  const soa: packet.Answer = {
    name: 'test',
    type: 'SOA',
    ttl: negativeTtl,
    data: { mname: 'ns.test', rname: 'root.test', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: negativeTtl },
  };
  const rcode = answers.length > 0 || exists(state.zone, name) ? 0 : 3;
  return packet.encode({ ...base, flags: flags | rcode, answers, authorities: [soa] });
}

function serveTcp(socket: Socket, state: State): void {
  let held = Buffer.alloc(0);
  socket.on('error', () => socket.destroy());
  socket.on('data', chunk => {
    held = Buffer.concat([held, chunk]);
    if (held.length < 2 || held.length < 2 + held.readUInt16BE(0)) return;
    const reply = answer(state, held.subarray(2), true);
    if (!reply) return;
    const length = Buffer.alloc(2);
    length.writeUInt16BE(reply.length);
    socket.end(Buffer.concat([length, reply]));
  });
}

/** A port that is free for TCP may be taken for UDP, by anybody's resolver: then another one. */
async function onePort(onTcp: (socket: Socket) => void): Promise<{ tcp: Server; udp: UdpSocket; port: number }> {
  for (;;) {
    const tcp = createServer(onTcp);
    await new Promise<void>(resolve => tcp.listen(0, '127.0.0.1', resolve));
    const { port } = tcp.address() as AddressInfo;
    const udp = createSocket('udp4');
    const why = await new Promise<NodeJS.ErrnoException | undefined>(resolve => {
      udp.once('error', resolve);
      udp.bind(port, '127.0.0.1', () => resolve(undefined));
    });
    if (why === undefined) return { tcp, udp, port };
    udp.close();
    await new Promise<void>(resolve => tcp.close(() => resolve()));
    if (why.code !== 'EADDRINUSE') throw why;
  }
}

export async function startDnsServer(zone: Zone = {}): Promise<DnsServer> {
  const state: State = { zone, fault: undefined, secure: false, asked: [] };
  const sockets = new Set<Socket>();
  const onTcp = (socket: Socket): void => {
    sockets.add(socket.once('close', () => sockets.delete(socket)));
    serveTcp(socket, state);
  };
  const { tcp, udp, port } = await onePort(onTcp);
  udp.on('message', (bytes, from) => {
    const reply = answer(state, bytes, false);
    if (reply) udp.send(reply, from.port, from.address);
  });
  return {
    address: `127.0.0.1:${port}`,
    asked: state.asked,
    setZone(next) {
      state.zone = next;
    },
    setFault(fault) {
      state.fault = fault;
    },
    setSecure(secure) {
      state.secure = secure;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await Promise.all([
        new Promise<void>(resolve => udp.close(() => resolve())),
        new Promise<void>(resolve => tcp.close(() => resolve())),
      ]);
    },
  };
}
