// Loops over MIME parts, RFC 5703 §3: which part is current, and how a replaced part changes the message.

import type { HeaderList } from '../../mail/headers.ts';
import type { Message } from '../../mail/message.ts';
import { makeMessage, withBody } from '../../mail/message.ts';
import type { MimePart } from '../../mail/mime.ts';
import { walkParts } from '../../mail/mime.ts';
import type { Rope } from '../../mail/rope.ts';
import { bufferRope, concatRopes, ropeBytes, sliceRope } from '../../mail/rope.ts';
import type { Call, Run } from '../contract.ts';

/** A replaced range of the base message's bytes. */
interface Change {
  readonly start: number;
  readonly end: number;
  readonly bytes: Buffer;
}

/** One loop and those nested in it, over the message as it was when the outermost began. */
export interface Loop {
  readonly base: Message;
  readonly changes: Change[];
  part: MimePart;
}

const loopKey = Symbol('loop over MIME parts');
const holder = (run: Run): { loop: Loop | undefined } => run.state(loopKey, () => ({ loop: undefined }));

export const currentLoop = (run: Run): Loop | undefined => holder(run).loop;

/** The message's own entity, whatever was edited in its header. */
export const isWhole = (part: MimePart): boolean => part.section === '';

/** Headers that `:mime` looks at: the current part's, with `:anychild` those of all parts in it too (RFC 5703 §4.1). */
export async function entityHeaders(call: Call): Promise<readonly HeaderList[]> {
  const { run } = call;
  const part = currentLoop(run)?.part ?? (await run.wait(run.message.mime()));
  const headersOf = (one: MimePart): HeaderList => (isWhole(one) ? run.message.headers : one.headers);
  if (!call.has('anychild')) return [headersOf(part)];
  const parts = [...walkParts(part)];
  run.spend(parts.length);
  return parts.map(headersOf);
}

/** Runs the block for every part: of the message, itself included, or within a loop of the current part. */
export async function forEveryPart(call: Call): Promise<void> {
  const { run } = call;
  const outer = currentLoop(run);
  const base = outer?.base ?? run.message;
  const root = outer?.part ?? (await run.wait(base.mime()));
  const all = [...walkParts(root)];
  const parts = outer ? all.slice(1) : all;
  const partBefore = run.part;
  try {
    for (const part of parts) {
      run.spend(1);
      const loop: Loop = { base, changes: outer?.changes ?? [], part };
      holder(run).loop = loop;
      run.part = () => partMessage(loop);
      if (!(await call.block())) break;
      if (outer === undefined) continue;
    }
  } finally {
    holder(run).loop = outer;
    run.part = partBefore;
  }
}

async function partMessage(loop: Loop): Promise<Message> {
  return makeMessage(bufferRope(await ropeBytes(sliceRope(loop.base.rope, loop.part.start, loop.part.end))));
}

/** RFC 5703 §5: puts an entity, header and body, in the place of the current part. */
export function replacePart(run: Run, loop: Loop, entity: Buffer): void {
  const { start, end } = loop.part;
  // What lay within the replaced part is gone with it; a part within a replaced one cannot be replaced any more.
  if (
    loop.changes.some(change => change.start <= start && change.end >= end && change.end - change.start > end - start)
  )
    return;
  const outside = loop.changes.filter(change => change.end <= start || change.start >= end);
  const bytes = entity.subarray(-2).toString('latin1') === '\r\n' ? entity.subarray(0, -2) : entity;
  loop.changes.splice(0, loop.changes.length, ...outside, { start, end, bytes });
  run.replaceMessage(withBody(run.message, changedBody(loop)));
}

function changedBody(loop: Loop): Rope {
  const pieces: Rope[] = [];
  let at = loop.base.bodyStart;
  for (const change of [...loop.changes].sort((a, b) => a.start - b.start)) {
    pieces.push(sliceRope(loop.base.rope, at, change.start), bufferRope(change.bytes));
    at = change.end;
  }
  pieces.push(sliceRope(loop.base.rope, at));
  return concatRopes(...pieces);
}
