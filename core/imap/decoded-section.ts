// A part with its transfer encoding undone (RFC 3516). The size must be told before the bytes, so a big part is decoded
// twice: once to count, once to send; neither holds more than a chunk.
import { openBody } from '../mail/body.ts';
import { no, Refusal } from './response.ts';
import { findPart, type SectionSource } from './section.ts';
import type { Partial } from './wire/types.ts';

export interface DecodedSection {
  readonly size: number;
  /** Holds NUL: must travel as literal8. */
  readonly binary: boolean;
  readonly chunks: AsyncIterable<Buffer>;
}

const known = new Set(['7bit', '8bit', 'binary', 'base64', 'quoted-printable']);

/** Undefined where there is no such part. Throws a `Refusal` for an encoding that nobody knows. */
export async function decodeSection(
  { message, outline }: SectionSource,
  numbers: readonly number[],
  partial: Partial | undefined,
): Promise<DecodedSection | undefined> {
  const whole = { bodyStart: 0, end: message.size, encoding: 'binary' };
  const found = numbers.length === 0 ? whole : findPart(await outline(), numbers);
  if (!found) return undefined;
  if (!known.has(found.encoding)) throw new Refusal(no('Transfer encoding is not known', 'UNKNOWN-CTE'));
  // RFC 2045 §6.4: a composite part has no encoding of its own, whatever it claims.
  const composite = 'multipart' in found && (found.multipart || found.message !== undefined);
  const part = composite ? { ...found, encoding: '8bit' } : found;
  const chunks = (): AsyncIterable<Buffer> => cut(openBody(message.rope, part), partial);
  let size = 0;
  let binary = false;
  for await (const chunk of chunks()) {
    size += chunk.length;
    binary ||= chunk.includes(0);
  }
  return { size, binary, chunks: chunks() };
}

async function* cut(source: AsyncIterable<unknown>, partial: Partial | undefined): AsyncGenerator<Buffer> {
  let skip = partial?.offset ?? 0;
  let left = partial?.count ?? Number.POSITIVE_INFINITY;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    const from = Math.min(skip, chunk.length);
    const taken = chunk.subarray(from, from + left);
    skip -= from;
    left -= taken.length;
    if (taken.length > 0) yield taken;
    if (left <= 0) return;
  }
}
