// A milter that says what a test tells it to, for what a real one says rarely. Records what it was told.
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import { encodePacket, PacketReader, steps, uint32 } from '../../plugins/milter/packets.ts';
import type { Teardown } from './engine-process.ts';

export interface Script {
  /** Actions and protocol bits of the answer to the negotiation. */
  readonly actions?: number;
  readonly protocol?: number;
  readonly version?: number;
  /** Appended to the answer to the negotiation. */
  readonly macroLists?: Buffer;
  /** What is written in answer to a command, by its letter; default: `c` where an answer is due. */
  readonly on?: Readonly<Record<string, Buffer | 'close' | 'silent'>>;
}

export interface ScriptedMilter {
  readonly port: number;
  /** Letter and data of each packet of the last connection; data of strings with `|` for NUL. */
  readonly told: string[];
  set(script: Script): void;
}

/** Commands that are answered, and the bit by which a milter says that it does not. */
const answered: Readonly<Record<string, number>> = {
  C: steps.silentConnect,
  H: steps.silentHelo,
  M: steps.silentMail,
  R: steps.silentRcpt,
  T: steps.silentData,
  L: steps.silentHeaders,
  N: steps.silentEndOfHeader,
  B: steps.silentBody,
  E: 0,
};

export async function startScriptedMilter(t: Teardown): Promise<ScriptedMilter> {
  let script: Script = {};
  const told: string[] = [];
  const open = new Set<net.Socket>();
  const answer = (socket: net.Socket, code: string): void => {
    const scripted = script.on?.[code];
    if (scripted === 'close') socket.end();
    else if (scripted === 'silent') return;
    else if (scripted) socket.write(scripted);
    else if (code === 'O') {
      const { version = 6, actions = 0, protocol = 0, macroLists = Buffer.alloc(0) } = script;
      socket.write(encodePacket('O', uint32(version, actions, protocol), macroLists));
    } else if (code in answered && ((script.protocol ?? 0) & (answered[code] ?? 0)) === 0)
      socket.write(encodePacket('c'));
  };
  const server = net.createServer(socket => {
    const reader = new PacketReader();
    told.length = 0;
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => open.delete(socket));
    socket.on('data', chunk => {
      reader.push(chunk);
      for (let packet = reader.next(); packet; packet = reader.next()) {
        told.push(`${packet.code}${packet.data.toString('latin1').replaceAll('\0', '|')}`);
        answer(socket, packet.code);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of open) socket.destroy();
    await new Promise<void>(resolve => server.close(() => resolve()));
  });
  return {
    port: (server.address() as AddressInfo).port,
    told,
    set(next) {
      script = next;
    },
  };
}
