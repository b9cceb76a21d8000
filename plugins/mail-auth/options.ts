import { duration, z } from '../../core/plugin/index.ts';

const domains = () => z.array(z.string().toLowerCase()).default([]);

export const options = z.strictObject({
  authservId: z
    .string()
    .regex(/^[\w.-]+$/, 'Expected a name such as mx.example.org')
    .optional()
    .describe('Name under which Authentication-Results are written (RFC 8601 §2.5); default: the hostname.'),
  ownIds: domains().describe(
    'Further names whose Authentication-Results fields are removed from what comes in: other gateways of this organisation, former names.',
  ),
  header: z
    .boolean()
    .default(true)
    .describe('Write Authentication-Results. Forged fields in our name are removed in any case.'),
  exempt: z
    .array(z.string())
    .default([])
    .describe('Networks that are not checked, besides relay networks and users: a backup MX, a trusted forwarder.'),
  temperror: z
    .enum(['defer', 'pass'])
    .default('defer')
    .describe('What to do where mail might have to be refused and DNS does not answer: 451, or let it pass.'),
  checkTimeout: duration()
    .prefault('20s')
    .describe('Longest time for one check; what is not known by then is a temperror (RFC 7208 §4.6.4).'),
  spf: z
    .strictObject({
      fail: z
        .enum(['mark', 'quarantine', 'reject'])
        .default('mark')
        .describe(
          'Sender’s domain forbids this client. Forwarded mail fails too, so `mark` leaves the decision to DMARC.',
        ),
      softfail: z
        .enum(['mark', 'quarantine', 'reject'])
        .default('mark')
        .describe('Sender’s domain says that this client is probably not allowed.'),
      permerror: z
        .enum(['mark', 'quarantine', 'reject'])
        .default('mark')
        .describe('The SPF record of the sender’s domain is broken.'),
      helo: z
        .enum(['off', 'mark', 'reject'])
        .default('mark')
        .describe('Check the HELO name too (RFC 7208 §2.3); `reject` refuses a client whose name forbids it.'),
      maxVoidLookups: z
        .number()
        .int()
        .nonnegative()
        .default(2)
        .describe('Lookups without an answer after which a record counts as broken (RFC 7208 §4.6.4).'),
    })
    .prefault({})
    .describe('Sender Policy Framework, RFC 7208.'),
  dkim: z
    .strictObject({
      maxSignatures: z.number().int().positive().default(10).describe('Signatures that are looked at, from the top.'),
      minKeyBits: z
        .number()
        .int()
        .min(1024)
        .default(1024)
        .describe('RSA keys below this many bits count for nothing (RFC 8301 §3.2).'),
      partialBody: z
        .enum(['policy', 'pass'])
        .default('policy')
        .describe(
          'A signature that covers only a part of the body (`l=`): anything may have been added behind it (RFC 6376 §8.2), so it counts for nothing; or let it count.',
        ),
    })
    .prefault({})
    .describe('DomainKeys Identified Mail, RFC 6376.'),
  dmarc: z
    .strictObject({
      policy: z
        .enum(['apply', 'report'])
        .default('apply')
        .describe('Do what the domain of the From field asks for, or only write down what it would have been.'),
      reject: z
        .enum(['reject', 'quarantine'])
        .default('reject')
        .describe('What to do where the domain asks to reject.'),
      pct: z
        .enum(['honour', 'ignore'])
        .default('honour')
        .describe('Apply the policy only to the share of messages that the record names (RFC 7489 §6.6.4).'),
    })
    .prefault({})
    .describe('Policies of the domain in the From field: RFC 9989, and RFC 7489 where records still use it.'),
  arc: z
    .strictObject({
      trusted: domains().describe(
        'Domains of forwarders and lists whose seals are believed: mail that they received with a DMARC pass is not refused for failing now (RFC 8617 §7.2.1).',
      ),
    })
    .prefault({})
    .describe('Authenticated Received Chain, RFC 8617.'),
});
export type MailAuthOptions = z.infer<typeof options>;
