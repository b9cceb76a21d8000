import { byteSize, duration, z } from '../../core/plugin/index.ts';
import { kindNames, kinds } from './kinds.ts';

/** From the mildest to the strictest. */
export const actions = ['allow', 'tag', 'strip', 'quarantine', 'reject'] as const;
export type Action = (typeof actions)[number];

const patterns = (what: string) => z.array(z.string().min(1).max(500)).optional().describe(what);
const kindList = Object.entries(kinds)
  .map(([name, what]) => `\`${name}\` (${what})`)
  .join(', ');

const rule = z.strictObject({
  is: z.array(z.enum(kindNames)).optional().describe(`Only attachments that are one of these: ${kindList}.`),
  name: patterns(
    'Only where a name fits: `*` stands for anything, `?` for one character; upper and lower case are the same.',
  ),
  type: patterns('Only where the type by content, or the one that the message claims, fits, such as `image/*`.'),
  inside: z
    .boolean()
    .optional()
    .describe('Only files inside archives, messages and documents, or only attachments themselves.'),
  sender: patterns('Only for these envelope senders, such as `*@shop.example`.'),
  recipient: patterns('Only where one of the recipients is such a one.'),
  origin: z
    .enum(['inside', 'outside', 'any'])
    .default('any')
    .describe('`inside`: authenticated users and relay networks; `outside`: all others.'),
  action: z
    .enum(actions)
    .describe(
      '`tag` adds the field `header`, `strip` puts a note in the place of the attachment, `allow` ends the search. Of several attachments the strictest action counts.',
    ),
});

const defaultRules: z.input<typeof rule>[] = [
  { is: ['executable', 'script', 'double-extension', 'direction-override'], action: 'reject' },
  { is: ['macro', 'disk-image', 'limit'], action: 'quarantine' },
  { is: ['encrypted', 'unreadable', 'mismatch'], action: 'tag' },
];

export const options = z.strictObject({
  rules: z
    .array(rule)
    .prefault(defaultRules)
    .describe(
      'Asked in order for every attachment and every file inside one; the first that fits counts, none means allowed.',
    ),
  text: z
    .string()
    .max(200)
    .regex(/^[\x20-\x7e]*$/, 'Expected one line of ASCII')
    .default('Message contains an attachment that is not accepted here')
    .describe('What the client hears when a message is refused.'),
  header: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{0,70}$/, 'Expected a header field name')
    .default('X-Attachment-Status')
    .describe('Field that names what was tagged or stripped; one from outside is removed. Empty: none.'),
  note: z
    .string()
    .max(4000)
    .default(
      'The attachment "{name}" was removed by the mail gateway {gateway} ({reason}). The whole message was kept there under the number {id}.',
    )
    .describe(
      'Text in the place of a stripped attachment; `{name}`, `{reason}`, `{id}` and `{gateway}` are filled in.',
    ),
  keepOriginal: z
    .boolean()
    .default(true)
    .describe('Keeps the message as it came in the quarantine when something was stripped.'),
  stripSealed: z
    .enum(['never', 'dkim', 'always'])
    .default('never')
    .describe(
      'Whether a message is stripped although that breaks something: never, also under DKIM signatures, or even when S/MIME or PGP signed or encrypted. Otherwise it is quarantined.',
    ),
  maxSize: byteSize().prefault('40MiB').describe('Larger attachments are not taken apart and are a `limit`.'),
  maxUnpacked: byteSize()
    .prefault('400MiB')
    .describe('Most bytes unpacked of one attachment, nested archives included.'),
  maxFiles: z
    .number()
    .int()
    .positive()
    .max(100_000)
    .default(5000)
    .describe('Most files in one attachment, nested archives included.'),
  maxDepth: z
    .number()
    .int()
    .positive()
    .max(20)
    .default(6)
    .describe('How deep archives, messages and documents are nested at most.'),
  unpackTimeout: duration()
    .prefault('15s')
    .describe('Time to take apart all attachments of one message; then they are a `limit`.'),
  threads: z.number().int().min(1).max(16).default(2).describe('Threads that take attachments apart.'),
});
export type Options = z.infer<typeof options>;
export type Rule = Options['rules'][number];
