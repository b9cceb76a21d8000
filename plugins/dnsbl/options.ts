import { clientPolicyFields, dnsListFields, duration, z } from '../../core/plugin/index.ts';

const { zone, ...fields } = dnsListFields();
const list = z.strictObject({
  zone,
  kind: z
    .enum(['ip', 'domain', 'allow'])
    .default('ip')
    .describe(
      '`ip` lists client addresses, `domain` lists domain names, `allow` lists client addresses that no other list of this entry may hurt.',
    ),
  of: z
    .array(z.enum(['sender', 'helo', 'name']))
    .default(['sender'])
    .describe(
      'For `domain` lists: which names to look up: the envelope sender’s domain, the HELO name, the reverse name.',
    ),
  ...fields,
});

export const options = z.strictObject({
  lists: z.array(list).default([]).describe('Lists to ask, all at once.'),
  when: z
    .enum(['connect', 'rcpt'])
    .default('rcpt')
    .describe(
      'Refuse at the greeting (`ip` lists only, cheapest), or at the recipient, where users are known and `exemptRecipients` still get their mail.',
    ),
  threshold: z.number().positive().default(1).describe('From this score on, `action` is taken.'),
  action: z
    .enum(['reject', 'defer', 'quarantine', 'mark'])
    .default('reject')
    .describe('`mark` only adds the header field `X-DNSBL`, which is added in the other cases too where mail passes.'),
  reply: z
    .enum(['list', 'generic'])
    .default('list')
    .describe(
      'Whether the client hears which list refused it and the list’s own text, so that it can get itself delisted.',
    ),
  ...clientPolicyFields({ clients: 'looked up', recipients: 'refused' }),
  listTimeout: duration().prefault('4s').describe('A list that did not answer by then counts as unavailable.'),
  engine: z
    .enum(['own', 'dnsbl'])
    .default('own')
    .describe(
      '`dnsbl`: the npm package of that name asks first and every hit is verified by our own resolver; it has no cache, so it is slower.',
    ),
});

export type DnsblOptions = z.infer<typeof options>;
