// What greylisting remembers. Keys, with the network of the client and the sender's identity:
//   wait NETWORK IDENTITY    first seen, not yet back in time
//   known NETWORK IDENTITY   came back
//   trust WHAT               how often a network or a proved domain came back as somebody new
// An identity is `@domain` where SPF or DKIM vouches for the domain, otherwise `sender recipient`.
import { type Memory, networkKey, type PluginAdmin, parseDomain } from '../../core/plugin/index.ts';

export interface Waiting {
  /** Milliseconds since the epoch. */
  readonly first: number;
  /** The address that came first. */
  readonly client: string;
  /** How often it came. */
  readonly tries: number;
  /** When it may pass. */
  readonly due: number;
  /** How long it is remembered once it passed. */
  readonly keep: number;
}
export interface Known {
  readonly since: number;
  readonly last: number;
  readonly client: string;
  readonly by: 'retry' | 'operator';
}

export const waitKey = (network: string, identity: string): string => `wait ${network} ${identity}`;
export const knownKey = (network: string, identity: string): string => `known ${network} ${identity}`;
export const trustKey = (what: string): string => `trust ${what}`;

export const read = <T>(text: string | undefined): T | undefined =>
  text === undefined ? undefined : (JSON.parse(text) as T);

const time = (ms: number): string => new Date(ms).toISOString().slice(0, 19).replace('T', ' ');
const split = (key: string): readonly [state: string, network: string, identity: string] => {
  const [state = '', network = '', ...identity] = key.split(' ');
  return [state, network, identity.join(' ')];
};

const maxWalk = 1_000_000;

/** An address, a network as listed, a domain, a sender or a recipient. */
function matches(key: string, value: Waiting, what: string): boolean {
  const [, network, identity] = split(key);
  const wanted = what.toLowerCase();
  if (network === wanted || value.client === wanted || identity.split(' ').includes(wanted)) return true;
  const prefix = Number(network.split('/')[1]);
  if (wanted.includes('@')) return false;
  if (networkKey(wanted, prefix, prefix) === network) return true;
  return parseDomain(wanted) !== undefined && identity.split(' ').some(part => part.endsWith(`@${wanted}`));
}

export const admin: PluginAdmin = {
  async list(memory, now, limit) {
    const waiting = await memory.list('wait ', limit);
    const known = await memory.list('known ', Math.max(0, limit - waiting.length));
    return [
      ...waiting.map(({ key, value }) => {
        const { first, client, tries, due } = JSON.parse(value) as Waiting;
        const [, network, identity] = split(key);
        const state = due <= now ? 'may pass' : 'waiting';
        return { state, network, identity, client, since: time(first), until: time(due), tries };
      }),
      ...known.map(({ key, value, expiresAt }) => {
        const { since, client, by } = JSON.parse(value) as Known;
        const [, network, identity] = split(key);
        const state = by === 'operator' ? 'released' : 'known';
        return { state, network, identity, client, since: time(since), until: time(expiresAt), tries: '' };
      }),
    ];
  },
  async release(memory, now, what) {
    const found = (await memory.list('wait ', maxWalk)).filter(({ key, value }) =>
      matches(key, JSON.parse(value) as Waiting, what),
    );
    await Promise.all(
      found.map(({ key, value }) => promote(memory, key, JSON.parse(value) as Waiting, 'operator', now)),
    );
    return found.length;
  },
};

/** From waiting to known. The one is written before the other goes: a crash between them lets mail pass. */
export async function promote(
  memory: Memory,
  key: string,
  waiting: Waiting,
  by: Known['by'],
  now: number,
): Promise<void> {
  const [, network, identity] = split(key);
  const known: Known = { since: now, last: now, client: waiting.client, by };
  await memory.set(knownKey(network, identity), JSON.stringify(known), waiting.keep);
  await memory.delete(key);
}
