// The npm package `clamscan`, and the only file that knows it. It speaks INSTREAM and reads the answer; what it cannot do
// is done around it: connections, deadlines and back-pressure are ours (`wire.ts`), it never runs a program, and an
// answer counts only when it is exactly one of clamd's. The package resolves with `isInfected: null` for no answer, and
// takes any text that ends in `: OK` for a clean message; both are failures here, for else mail would pass unscanned.
// Its two methods that are replaced are internal ones; the version is pinned, and the tests run the real package.
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import NodeClam from 'clamscan';
import { raceSignal } from '../../core/plugin/index.ts';
import { Wire } from './wire.ts';

export type ScanAnswer =
  | { readonly kind: 'clean' }
  | { readonly kind: 'infected'; readonly signatures: readonly string[] };

const cleanAnswer = /^stream: OK\0?$/;
const foundAnswer = /^stream: \S.* FOUND\0?$/;
const printable = (text: string): string =>
  text
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 200);

/** A new instance for each use: `init` empties the options it is given, and the connection is bound to it. */
async function clientOn(wire: Wire): Promise<NodeClam> {
  const client = new NodeClam();
  Object.assign(client, {
    _initSocket: () => Promise.resolve(wire),
    _isClamavBinary: () => Promise.resolve(false),
  });
  return client.init({
    clamscan: { active: false },
    // The address is never used, but without one the package looks for programs.
    clamdscan: { host: 'clamd', port: 3310, localFallback: false, bypassTest: true },
    preference: 'clamdscan',
  });
}

/** Closes the socket and the content in every case. Rejects unless clamd said clearly what the content is. */
export async function scan(socket: Socket, content: Readable, signal: AbortSignal): Promise<ScanAnswer> {
  const wire = new Wire(socket, content);
  try {
    const client = await clientOn(wire);
    const answer = await raceSignal(client.scanStream(content), signal).catch((error: Error) => {
      throw signal.aborted ? signal.reason : (wire.failure ?? new Error(printable(error.message), { cause: error }));
    });
    const text = String((answer as { resultString?: unknown }).resultString ?? '');
    if (answer.isInfected === false && cleanAnswer.test(text)) return { kind: 'clean' };
    if (answer.isInfected === true && foundAnswer.test(text))
      return { kind: 'infected', signatures: answer.viruses.map(printable) };
    throw wire.failure ?? new Error(text === '' ? 'Closed without an answer' : `Answered '${printable(text)}'`);
  } finally {
    wire.destroy();
    content.destroy();
  }
}

export interface EngineVersion {
  readonly engine: string;
  /** Number of the signature database, and when it was made (ms since the epoch); absent for a database of one's own. */
  readonly signatures?: number;
  readonly madeAt?: number;
}

/** `ClamAV 1.4.6/27812/Fri Nov 20 09:30:00 2026`. */
export function parseVersion(text: string): EngineVersion | undefined {
  const [, engine, signatures, date] =
    /^(ClamAV [^/\s]+)(?:\/(\d+)\/(.+))?$/.exec(text.replaceAll('\0', '').trim()) ?? [];
  if (engine === undefined) return undefined;
  const madeAt = Date.parse(date ?? '');
  return {
    engine,
    ...(signatures === undefined ? {} : { signatures: Number(signatures) }),
    ...(Number.isNaN(madeAt) ? {} : { madeAt }),
  };
}

export async function readVersion(socket: Socket, signal: AbortSignal): Promise<EngineVersion> {
  const wire = new Wire(socket);
  try {
    const client = await clientOn(wire);
    const text = await raceSignal(client.getVersion(), signal);
    const version = parseVersion(text);
    if (!version) throw wire.failure ?? new Error(`Answered '${printable(text)}' to VERSION`);
    return version;
  } finally {
    wire.destroy();
  }
}
