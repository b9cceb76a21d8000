// Every member of the host and how it crosses to an isolated plugin. A record over the contract: a port that is forgotten
// here does not compile.
import type { Logger } from 'pino';
import type { Clock } from '../../lib/clock.ts';
import type { CheckHost, Host } from '../../plugin/contract.ts';
import type { Question, WireAnswer } from './protocol.ts';
import { errorToWire } from './wire.ts';

/**
 * `value`: copied once. `sync`: asked with the plugin's thread standing still, for the contract answers at once. `async`:
 * asked while the thread goes on. `local`: made in the plugin's own thread. `none`: not for an isolated plugin, for
 * the gateway would have to call it back.
 */
export type Crossing<T> = T extends Logger | Clock
  ? 'local'
  : T extends (...args: never[]) => Promise<unknown>
    ? 'async'
    : T extends (...args: never[]) => unknown
      ? 'sync' | 'none'
      : T extends string | readonly string[]
        ? 'value'
        : { readonly [Member in keyof T]: Crossing<T[Member]> };

/** As the code that walks it sees it. */
export type Ports = { readonly [member: string]: 'value' | 'sync' | 'async' | 'local' | 'none' | Ports };

export const hostPorts: Crossing<Host> = {
  hostname: 'value',
  postmaster: 'value',
  log: 'local',
  clock: 'local',
  dns: {
    a: 'async',
    aaaa: 'async',
    txt: 'async',
    mx: 'async',
    ptr: 'async',
    query: 'async',
    servers: 'value',
  },
  mailboxes: { domainKind: 'sync', exists: 'async', authenticate: 'async', judge: 'async' },
  rules: { open: 'async' },
  memory: { get: 'async', set: 'async', delete: 'async', list: 'async' },
  isRelayClient: 'sync',
  dataDir: 'value',
  resolvePath: 'sync',
  readSecret: 'sync',
  onForward: 'none',
  submit: 'async',
};

export const checkPorts: Crossing<CheckHost> = { resolvePath: 'sync', checkRules: 'async' };

type Member = Readonly<Record<string, unknown>>;

/** What of the host is a plain value, by its path. */
export function valuesOf(host: object, ports: Ports, prefix = ''): Readonly<Record<string, unknown>> {
  const values: Record<string, unknown> = {};
  for (const [name, crossing] of Object.entries(ports)) {
    const member = (host as Member)[name];
    if (crossing === 'value') values[prefix + name] = member;
    else if (typeof crossing === 'object')
      Object.assign(values, valuesOf(member as object, crossing, `${prefix}${name}.`));
  }
  return values;
}

const hasMethods = (value: unknown): value is Member =>
  typeof value === 'object' && value !== null && Object.values(value).some(member => typeof member === 'function');

/** Answers the questions of one plugin: only functions that `ports` names, and those of objects it was given. */
export class PortServer {
  readonly #host: object;
  readonly #ports: Ports;
  readonly #objects = new Map<number, Member>();

  constructor(host: object, ports: Ports) {
    this.#host = host;
    this.#ports = ports;
  }

  /** `revive` makes an argument of what crossed for it. */
  async answer(question: Question, revive: (argument: Question['args'][number]) => unknown): Promise<WireAnswer> {
    try {
      const { owner, name } = this.#find(question);
      const result: unknown = await (owner[name] as (...args: unknown[]) => unknown).apply(
        owner,
        question.args.map(revive),
      );
      return hasMethods(result) ? this.#handOut(result) : { kind: 'value', value: result };
    } catch (error) {
      return { kind: 'error', error: errorToWire(error) };
    }
  }

  #find({ of, path }: Question): { readonly owner: Member; readonly name: string } {
    const name = path.at(-1) ?? '';
    let owner: unknown = of === 'host' ? this.#host : this.#objects.get(of);
    let crossing: Ports | string | undefined = this.#ports;
    for (const member of path) {
      crossing = typeof crossing === 'object' && Object.hasOwn(crossing, member) ? crossing[member] : undefined;
      if (member !== name || typeof crossing === 'object') owner = (owner as Member | undefined)?.[member];
    }
    const known = of === 'host' ? crossing === 'sync' || crossing === 'async' : true;
    if (!known || typeof (owner as Member | undefined)?.[name] !== 'function')
      throw new Error(`The host has no function '${path.join('.')}'`);
    return { owner: owner as Member, name };
  }

  #handOut(object: Member): WireAnswer {
    const number = this.#objects.size + 1;
    this.#objects.set(number, object);
    return {
      kind: 'object',
      object: number,
      methods: Object.keys(object).filter(key => typeof object[key] === 'function'),
    };
  }
}
