// The thread that an isolated plugin runs in: loads it, carries out what the gateway orders, and gives it a host and
// contexts that ask the gateway. All of the contract's own code (messages, MIME, addresses) runs here as it does there.
import { Socket } from 'node:net';
import { pino } from 'pino';
import type { Plugin, PluginInstance } from '../../plugin/contract.ts';
import { pluginOf } from '../plugin-module.ts';
import { validateOptions } from '../validate-options.ts';
import { GatewayLink } from './gateway-link.ts';
import { checkPorts, hostPorts, type Ports } from './host-ports.ts';
import {
  channels,
  encodeFrame,
  FrameReader,
  type FromPlugin,
  type Order,
  type Outcome,
  type ToPlugin,
} from './protocol.ts';
import { RemoteContext } from './remote-context.ts';
import { abortReason, errorToWire, messageFromWire } from './wire.ts';

type Load = Extract<ToPlugin, { readonly kind: 'load' }>;
type Run = (order: Order, call: number, signal: AbortSignal) => Promise<Outcome>;

const plain = (value: unknown): Outcome => ({ results: [], evidence: undefined, answer: { value } });

async function load({ source }: Load): Promise<Plugin<unknown>> {
  return pluginOf(source.spec, (await import(source.module)) as Record<string, unknown>);
}

async function describe(order: Load): Promise<FromPlugin> {
  const plugin = await load(order);
  const checked = validateOptions(plugin, order.options);
  const { name, doc, reads = [], writes = [] } = plugin;
  const problems = 'problems' in checked ? checked.problems : [];
  const checks = plugin.check !== undefined;
  const history = plugin.history === true;
  return { kind: 'described', description: { name, doc, reads, writes, checks, history, problems } };
}

/** The plugin set up, as something that carries out orders. */
async function begin(
  order: Load,
  link: GatewayLink,
): Promise<{ readonly methods: readonly string[]; readonly run: Run }> {
  const plugin = await load(order);
  const checked = validateOptions(plugin, order.options);
  if ('problems' in checked) throw new Error(checked.problems.map(({ message }) => message).join('; '));
  const { options } = checked;
  const log = pino({ level: order.logLevel, base: null }, { write: (line: string) => link.log(line) });
  const hostOver = (ports: Ports): unknown => link.host(ports, order.values, { log });
  if (order.purpose === 'check')
    return {
      methods: [],
      run: async () => plain(await plugin.check?.(options, hostOver(checkPorts as Ports) as never)),
    };
  const instance = await plugin.setup(options, hostOver(hostPorts as Ports) as never);
  const methods = Object.keys(methodsOf(instance));
  const writes = new Set(plugin.writes?.map(key => key.name));
  return {
    methods,
    async run(order, call, signal) {
      if (order.kind === 'hook') {
        const context = new RemoteContext(order, { call, signal, log, writes, link });
        return context.run(instance);
      }
      if (order.kind === 'learn')
        return plain(await instance.learn?.(messageFromWire(order.message), order.as, order.recipient, signal));
      if (order.kind === 'status') return plain(await instance.status?.());
      return plain(await instance.close?.());
    },
  };
}

/** Members of an instance, which may be of a class. */
function methodsOf(instance: PluginInstance): Readonly<Record<string, true>> {
  const found: Record<string, true> = {};
  for (let at: object | null = instance; at && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null)
    for (const name of Object.getOwnPropertyNames(at))
      if (name !== 'constructor' && typeof (instance as Record<string, unknown>)[name] === 'function')
        found[name] = true;
  return found;
}

const failed = (error: unknown): Outcome => ({
  results: [],
  evidence: undefined,
  answer: { error: errorToWire(error) },
});

/** Reads what the gateway says, from the first frame to the end of the process. */
function serve(): void {
  const socket = new Socket({ fd: channels.frames, readable: true, writable: true });
  const send = (message: FromPlugin): void => void socket.write(encodeFrame(message));
  const link = new GatewayLink(send);
  const calls = new Map<number, AbortController>();
  let run: Run = async () => failed(new Error('The plugin is not set up'));

  async function start(order: Load): Promise<void> {
    try {
      if (order.purpose === 'describe') return send(await describe(order));
      const begun = await begin(order, link);
      run = begun.run;
      send({ kind: 'ready', methods: begun.methods });
    } catch (error) {
      send({ kind: 'failed', error: errorToWire(error) });
    }
  }

  async function carryOut(id: number, order: Order): Promise<void> {
    const controller = new AbortController();
    calls.set(id, controller);
    const outcome = await run(order, id, controller.signal).catch(failed);
    calls.delete(id);
    try {
      send({ kind: 'outcome', id, outcome });
    } catch (error) {
      // An answer that cannot be copied.
      send({ kind: 'outcome', id, outcome: failed(error) });
    }
  }

  const reader = new FrameReader<ToPlugin>();
  socket.on('data', chunk => {
    for (const message of reader.push(chunk))
      switch (message.kind) {
        case 'load':
          void start(message);
          break;
        case 'order':
          void carryOut(message.id, message.order);
          break;
        case 'abort':
          calls.get(message.id)?.abort(abortReason(message.why, message.limitMs));
          break;
        case 'answer':
          link.answered(message.id, message.answer);
          break;
        case 'logged':
          link.logged(message.lines);
          break;
      }
  });
}

serve();
