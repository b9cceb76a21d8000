import { byteSize, dnsListFields, duration, z } from '../../core/plugin/index.ts';

const { zone, ...fields } = dnsListFields();
const list = z.strictObject({
  zone,
  ask: z
    .array(z.enum(['domain', 'host', 'address']))
    .min(1)
    .default(['domain'])
    .describe(
      'What the list is asked about: the registered `domain` (SURBL, URIBL), the whole `host` name (Spamhaus DBL), numeric `address`es in links (SURBL, URIBL; never DBL).',
    ),
  ...fields,
});

export const options = z.strictObject({
  lists: z.array(list).default([]).describe('Lists to ask, all at once.'),
  threshold: z
    .number()
    .positive()
    .default(1)
    .describe('From this score on, `action` is taken. Of each list its worst hit counts.'),
  action: z
    .enum(['reject', 'quarantine', 'mark'])
    .default('reject')
    .describe('`mark` only adds the header field `X-URIBL`, which is added in the other cases too where mail passes.'),
  bareNames: z
    .boolean()
    .default(true)
    .describe('Names without a scheme (`evil.example/x`) count too, where they end in a known top-level domain.'),
  fields: z
    .array(z.string().toLowerCase())
    .default(['from', 'reply-to'])
    .describe('Header fields whose addresses’ domains are looked up too. Links in the subject always are.'),
  exempt: z
    .array(z.string().toLowerCase())
    .default(['w3.org', 'schema.org', 'schemas.microsoft.com', 'purl.org', 'xmlns.com'])
    .describe('Domains that are not looked up, with all names below them, besides our own.'),
  maxNames: z
    .number()
    .int()
    .positive()
    .max(1000)
    .default(60)
    .describe('Most names that each list is asked about; of more the first and the last are.'),
  maxText: byteSize().prefault('1MiB').describe('Most text of one message that is looked at.'),
  listTimeout: duration().prefault('5s').describe('A list that did not answer by then counts as unavailable.'),
  outgoing: z.boolean().default(false).describe('Check mail of our own users and relay networks as well.'),
});
export type UriblOptions = z.infer<typeof options>;
