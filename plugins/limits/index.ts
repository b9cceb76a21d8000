// Sizes that a message may have, beyond what the listener bounds already: recipients, header section, hops, MIME tree.
// Everything here protects what comes later: a loop of two gateways, a header of a million fields, a tree of a
// million parts.
import {
  byteSize,
  countHops,
  definePlugin,
  type Message,
  type MimePart,
  pass,
  type Reply,
  reject,
  walkParts,
  z,
} from '../../core/plugin/index.ts';

const options = z.strictObject({
  messageSize: byteSize()
    .prefault('50MiB')
    .describe('Largest message (RFC 1870); also refused at MAIL FROM where the client declares more.'),
  recipients: z
    .number()
    .int()
    .min(100)
    .default(1000)
    .describe(
      'Most recipients of a message; more are deferred, so that the client sends another message to them (RFC 5321 §4.5.3.1.10).',
    ),
  headerSize: byteSize().prefault('256KiB').describe('Largest header section.'),
  headerFields: z.number().int().min(50).default(1000).describe('Most header fields.'),
  hops: z
    .number()
    .int()
    .min(10)
    .default(100)
    .describe('Most Received fields; more are taken for a loop (RFC 5321 §6.3: at least 100 in general).'),
  mimeParts: z.number().int().positive().default(1000).describe('Most MIME parts.'),
  mimeDepth: z.number().int().positive().default(30).describe('Deepest nesting of MIME parts.'),
});

const tooBig: Reply<5> = { code: 552, enhanced: '5.3.4', text: 'Message is too large' };
const headerTooBig: Reply<5> = { code: 552, enhanced: '5.3.4', text: 'Header section is too large' };
const loop: Reply<5> = { code: 554, enhanced: '5.4.6', text: 'Too many hops, this looks like a mail loop' };
const tooComplex: Reply<5> = { code: 554, enhanced: '5.6.0', text: 'MIME structure is too complex' };
const tooMany: Reply<4> = { code: 452, enhanced: '4.5.3', text: 'Too many recipients' };

/** Only these types have parts. */
const composite = /^\s*(?:multipart|message)\s*\//i;

/** The parser stops at limits of its own; what it left out counts as too much. */
const cutOff = new Set(['too-deep', 'too-many-parts']);

function depthOf(root: MimePart): number {
  let deepest = 0;
  const pending: (readonly [MimePart, number])[] = [[root, 1]];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [part, depth] = next;
    deepest = Math.max(deepest, depth);
    for (const child of part.message ? [part.message, ...part.parts] : part.parts) pending.push([child, depth + 1]);
  }
  return deepest;
}

async function measure(
  message: Message,
): Promise<{ readonly parts: number; readonly depth: number; readonly cut: boolean }> {
  const root = await message.mime();
  let parts = 0;
  let cut = false;
  for (const part of walkParts(root)) {
    parts++;
    cut ||= part.defects.some(defect => cutOff.has(defect));
  }
  return { parts, depth: depthOf(root), cut };
}

export const limits = definePlugin({
  name: 'limits',
  doc: 'Refuses messages that are too large, have too many recipients, header fields or MIME parts, or run in circles.',
  options,
  setup(settings) {
    return {
      mail(at) {
        const declared = at.envelope.declaredSize ?? 0;
        return declared > settings.messageSize ? reject(tooBig, `Client declares ${declared} bytes`) : pass;
      },
      rcpt(at) {
        const count = at.envelope.recipients.length;
        if (count < settings.recipients) return pass;
        return { kind: 'defer', reply: tooMany, why: `${count} recipients so far` };
      },
      message(at) {
        const { size, headers } = at.message;
        if (size > settings.messageSize) return reject(tooBig, `${size} bytes`);
        const unlisted = headers.defects.includes('header-too-large') || headers.defects.includes('too-many-fields');
        if (headers.size > settings.headerSize || headers.count > settings.headerFields || unlisted)
          return reject(headerTooBig, `Header section of ${headers.size} bytes, ${headers.count} fields`);
        const hops = countHops(headers);
        if (hops > settings.hops) return reject(loop, `${hops} Received fields`);
        at.evidence({ size, fields: headers.count, hops });
        const type = headers.get('content-type');
        // What is no multipart has one part; the tree need not be read for that.
        if (!type || !composite.test(type.value)) return pass;
        return measure(at.message).then(({ parts, depth, cut }) =>
          cut || parts > settings.mimeParts || depth > settings.mimeDepth
            ? reject(tooComplex, `${parts} MIME parts, ${depth} deep${cut ? ' as far as they were read' : ''}`)
            : pass,
        );
      },
    };
  },
});
