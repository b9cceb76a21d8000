import { byteSize, duration, engineHostFields, z } from '../../core/plugin/index.ts';

/** From the mildest to the strictest. */
export const actions = ['ignore', 'tag', 'quarantine', 'discard', 'reject'] as const;
export type Action = (typeof actions)[number];

const action = (preset: Action, what: string) => z.enum(actions).default(preset).describe(what);

export const options = z.strictObject({
  ...engineHostFields('clamd', ['/run/clamav/clamd.ctl'], 3310),
  caFile: z
    .string()
    .min(1)
    .optional()
    .meta({ kind: 'path' })
    .describe('Certificates that vouch for a `tls://` host (a TLS terminator in front of clamd).'),
  maxSize: byteSize()
    .prefault('25MiB')
    .describe('Larger messages are not scanned. At most `StreamMaxLength` of clamd.conf, which closes the connection.'),
  oversized: z
    .enum(['pass', 'tag', 'quarantine', 'reject'])
    .default('tag')
    .describe('What happens to a message above `maxSize`.'),
  infected: action('reject', 'For every signature that no other option names.'),
  encrypted: action(
    'tag',
    'For `Heuristics.Encrypted.*`: archives and documents with a password. clamd reports these with `AlertEncrypted yes`.',
  ),
  macros: action(
    'quarantine',
    'For `Heuristics.OLE2.ContainsMacros*`: Office documents with macros. clamd reports these with `AlertOLE2Macros yes`.',
  ),
  phishing: action('quarantine', 'For `Heuristics.Phishing.*`: links that show another address than they lead to.'),
  limits: action(
    'tag',
    'For `Heuristics.Limits.Exceeded*`: archives too deep or large to be scanned. With `AlertExceedsMax yes`.',
  ),
  unwanted: action('tag', 'For `PUA.*`: programs that some want and others do not. With `DetectPUA yes`.'),
  rules: z
    .array(
      z.strictObject({
        signature: z.string().min(1).describe('Name of a signature; `*` stands for any characters.'),
        action: z.enum(actions).describe('What happens to the message.'),
      }),
    )
    .default([])
    .describe('Asked before the options above; the first one that matches counts.'),
  header: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{0,70}$/, 'Expected a header field name')
    .default('X-Virus-Status')
    .describe('Field that tells the result to programs behind; one from outside is removed. Empty: none.'),
  maxSignatureAge: duration().prefault('3d').describe('Older signatures are warned of, in the log and in `status`.'),
});

export type ClamavOptions = z.infer<typeof options>;
