import { engineHostFields, parseEndpoint, spamPolicyFields, z } from '../../core/plugin/index.ts';

export const options = z.strictObject({
  ...engineHostFields('rspamd’s normal or proxy worker', ['127.0.0.1:11333'], 11333),
  caFile: z
    .string()
    .min(1)
    .optional()
    .meta({ kind: 'path' })
    .describe('Certificates that vouch for a `tls://` host (a TLS terminator in front of rspamd).'),
  ...spamPolicyFields({ junk: 6, maxSize: '10MiB' }),
  decide: z
    .enum(['thresholds', 'rspamd'])
    .default('thresholds')
    .describe(
      'Whose thresholds count: ours, or the action that rspamd names (`reject`, `add header` and `rewrite subject` as junk, `quarantine`, `discard`). `soft reject` (greylisting, rate limits of rspamd) always defers.',
    ),
  milterHeaders: z
    .array(z.string().regex(/^[\x21-\x39\x3b-\x7e]+$/, 'Expected a header field name'))
    .default(['X-*', 'DKIM-Signature', 'ARC-*'])
    .describe(
      'Fields that rspamd may add or remove by its `milter_headers`, `dkim_signing` and `arc` modules; `*` at the end stands for any characters. Trace fields, `From`, `Date`, `Message-ID` and MIME fields never.',
    ),
  controller: z
    .string()
    .optional()
    .refine(text => text === undefined || parseEndpoint(text, 11334) !== undefined, "Expected a path or 'host:port'")
    .describe('Where rspamd’s controller listens; messages that people judge are learnt there.'),
  passwordFile: z
    .string()
    .min(1)
    .optional()
    .meta({ kind: 'path' })
    .describe('File with the password of the controller, where it asks for one.'),
});
export type RspamdOptions = z.infer<typeof options>;
