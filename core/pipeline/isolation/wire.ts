// Values with a life, as they cross to an isolated plugin and back.
import { serialize } from 'node:v8';
import { DeadlineError } from '../../lib/deadline.ts';
import { type Message, makeMessage } from '../../mail/message.ts';
import type { Rope } from '../../mail/rope.ts';
import type { ResultKey } from '../../plugin/results.ts';
import type { WireError, WireMessage, WireResult } from './protocol.ts';

export function errorToWire(error: unknown): WireError {
  if (!(error instanceof Error)) return { name: 'Error', message: `Threw ${String(error)}` };
  const { name, message, stack } = error;
  return { name: String(name), message: String(message), ...(typeof stack === 'string' ? { stack } : {}) };
}

export function errorFromWire({ name, message, stack }: WireError): Error {
  const error = new Error(message);
  error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** Why a signal aborts, for those who tell a deadline from the rest. */
export function abortReason(why: string, limitMs: number | undefined): Error {
  return limitMs === undefined ? new Error(why) : new DeadlineError(limitMs);
}

export const messageToWire = ({ headers, bodyStart, rope }: Message): WireMessage => ({
  section: { bytes: headers.raw, end: headers.size, bodyStart },
  pieces: rope.pieces,
});

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

export function messageFromWire({ section, pieces }: WireMessage): Message {
  const own = pieces.map(piece => (piece instanceof Uint8Array ? asBuffer(piece) : piece));
  const size = own.reduce((sum, piece) => sum + (Buffer.isBuffer(piece) ? piece.length : piece.end - piece.start), 0);
  const rope: Rope = { size, pieces: own };
  return makeMessage(rope, { section: { ...section, bytes: asBuffer(section.bytes) } });
}

/** Undefined for a value that cannot be copied, such as one that holds a function. */
export function resultToWire({ name, scope }: ResultKey<unknown>, value: unknown): WireResult | undefined {
  try {
    return { name, scope, value: serialize(value) };
  } catch {
    return undefined;
  }
}
