// What is on this machine and around it: engines that listen, whether the block list answers, our addresses.
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Clock } from '../lib/clock.ts';
import type { Dns } from '../plugin/contract.ts';
import type { Engine } from './answers.ts';

const clamdSockets = ['/run/clamav/clamd.ctl', '/var/run/clamav/clamd.ctl', '/run/clamd.scan/clamd.sock'];

function listens(port: number, clock: Clock): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1');
    const finish = (open: boolean): void => {
      cancel();
      socket.destroy();
      resolve(open);
    };
    const cancel = clock.after(2_000, () => finish(false));
    socket.once('connect', () => finish(true));
    socket.once('error', () => finish(false));
  });
}

export async function findEngines(clock: Clock): Promise<readonly Engine[]> {
  const found: Engine[] = [];
  const clamd = clamdSockets.find(file => existsSync(file));
  if (clamd !== undefined) found.push({ plugin: 'clamav', endpoint: clamd });
  const [rspamd, spamd] = await Promise.all([listens(11_333, clock), listens(783, clock)]);
  // Both would count every finding twice.
  if (rspamd) found.push({ plugin: 'rspamd', endpoint: '127.0.0.1:11333' });
  else if (spamd) found.push({ plugin: 'spamassassin', endpoint: '127.0.0.1:783' });
  return found;
}

/** RFC 5782 §5: 127.0.0.2 must be listed and 127.0.0.1 must not; what public resolvers are told is no listing. */
export async function listAnswers(dns: Dns, zone: string): Promise<'yes' | 'refused' | 'lies' | 'no'> {
  const [positive, negative] = await Promise.all([dns.a(`2.0.0.127.${zone}`), dns.a(`1.0.0.127.${zone}`)]);
  if (positive.kind === 'found' && positive.records.some(each => each.startsWith('127.255.255.'))) return 'refused';
  if (positive.kind !== 'found') return 'no';
  if (negative.kind === 'found' || !positive.records.every(each => each.startsWith('127.'))) return 'lies';
  return 'yes';
}

const isPrivate = (address: string): boolean =>
  /^(?:10\.|127\.|169\.254\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|100\.(?:6[4-9]|[789]\d|1[01]\d|12[0-7])\.|::1$|fe80:|f[cd])/i.test(
    address,
  );

/** Those of the interfaces, public ones first. */
export function ownAddresses(): readonly string[] {
  const all = Object.values(networkInterfaces()).flatMap(each => each ?? []);
  const addresses = all.filter(each => !each.internal && !/^fe80:/i.test(each.address)).map(each => each.address);
  return [...addresses.filter(each => !isPrivate(each)), ...addresses.filter(isPrivate)];
}
