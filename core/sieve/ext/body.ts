// Test body, RFC 5173.

import { decodeBody, decodeBodyText } from '../../mail/body.ts';
import type { Message } from '../../mail/message.ts';
import type { MimePart } from '../../mail/mime.ts';
import { walkParts } from '../../mail/mime.ts';
import { ropeBytes, sliceRope } from '../../mail/rope.ts';
import type { Call } from '../contract.ts';
import { defineExtension } from '../extension.ts';
import { htmlText } from '../html-text.ts';

async function rawBody(call: Call, message: Message): Promise<readonly string[]> {
  const end = Math.min(message.size, message.bodyStart + call.run.setting('maxBodyBytes'));
  return [(await ropeBytes(sliceRope(message.rope, message.bodyStart, end))).toString('utf8')];
}

/** Decoded text of a part that holds no parts: text in Unicode, anything else as UTF-8 of its octets. */
async function leafText(call: Call, message: Message, part: MimePart): Promise<string> {
  const limit = call.run.setting('maxBodyBytes');
  const text =
    part.contentType.type === 'text'
      ? await decodeBodyText(message.rope, part, limit)
      : (await decodeBody(message.rope, part, limit)).toString('utf8');
  call.run.spend(text.length >> 10);
  return text;
}

/** RFC 5173 §5.2: the text before the first and behind the last delimiter of a multipart. */
async function around(message: Message, part: MimePart): Promise<readonly string[]> {
  const first = part.parts[0];
  const last = part.parts.at(-1);
  const read = async (from: number, to: number) =>
    (await ropeBytes(sliceRope(message.rope, from, to))).toString('utf8');
  if (!first || !last) return [await read(part.bodyStart, part.end)];
  const before = await read(part.bodyStart, first.start);
  const behind = await read(last.end, part.end);
  return [before.replace(/(^|\r?\n)--[^\n]*\r?\n$/, '$1'), behind.replace(/^\r?\n?--[^\n]*(\r?\n|$)/, '')];
}

/** RFC 5173 §5.2: a type, `type/subtype`, or `''` for all; what has a slash at its ends or two of them is nothing. */
function wanted(part: MimePart, types: readonly string[]): boolean {
  const { type, subtype } = part.contentType;
  return types.some(wish => {
    const text = wish.trim().toLowerCase();
    return text === '' || text === type || text === `${type}/${subtype}`;
  });
}

const isMessage = (part: MimePart): boolean => part.message !== undefined;

async function contents(call: Call, message: Message, types: readonly string[]): Promise<readonly string[]> {
  const out: string[] = [];
  for (const part of walkParts(await message.mime())) {
    call.run.spend(1);
    if (!wanted(part, types)) continue;
    if (part.parts.length > 0 || part.contentType.type === 'multipart') out.push(...(await around(message, part)));
    else if (part.message && isMessage(part)) {
      const { start, bodyStart } = part.message;
      out.push((await ropeBytes(sliceRope(message.rope, start, bodyStart))).toString('utf8'));
    } else out.push(await leafText(call, message, part));
  }
  return out;
}

async function texts(call: Call, message: Message): Promise<readonly string[]> {
  const out: string[] = [];
  for (const part of walkParts(await message.mime())) {
    call.run.spend(1);
    if (part.contentType.type !== 'text' || part.parts.length > 0) continue;
    const text = await leafText(call, message, part);
    out.push(part.contentType.subtype === 'html' ? htmlText(text) : text);
  }
  return out;
}

async function values(call: Call): Promise<readonly string[]> {
  const { message } = call.run;
  // RFC 5173 §4: a message without an empty line has no body, and nothing matches.
  if (message.headers.size >= message.bodyStart) return [];
  if (call.has('raw')) return rawBody(call, message);
  const types = call.maybeStrings('content');
  return types ? contents(call, message, types) : texts(call, message);
}

export const body = defineExtension({
  name: 'body',
  tests: [
    {
      name: 'body',
      uses: ['match-type', 'comparator'],
      tags: [
        { name: 'raw', group: 'body transform' },
        { name: 'text', group: 'body transform' },
        { name: 'content', group: 'body transform', type: 'string-list' },
      ],
      arguments: [{ name: 'keys', type: 'string-list' }],
      async run(call) {
        const { run } = call;
        const found = await run.wait(values(call));
        // RFC 5173 §6: no match variables are set.
        const { captures } = run;
        run.captures = undefined;
        try {
          return await call.matches('keys', found);
        } finally {
          run.captures = captures;
        }
      },
    },
  ],
});
