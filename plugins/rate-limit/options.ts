import { duration, z } from '../../core/plugin/index.ts';

export const dimensions = ['address', 'network', 'sender', 'account', 'recipient'] as const;
export type Dimension = (typeof dimensions)[number];

/** Timers of the limiter hold 31 bits of milliseconds. */
const longestMs = 14 * 86_400_000;

const limit = z
  .strictObject({
    per: z
      .enum(dimensions)
      .describe(
        '`address` of the client (IPv6: its /64), its `network`, the envelope `sender`, the `account` that logged in, or one envelope `recipient`. Addresses and networks of users and relay networks are not counted.',
      ),
    messages: z.number().int().positive().optional().describe('Most messages in one window.'),
    recipients: z
      .number()
      .int()
      .positive()
      .optional()
      .describe('Most recipients in one window, over all messages; unknown ones count too.'),
    window: duration().describe('Time after which counting begins anew, from 1s to 14d.'),
    action: z
      .enum(['defer', 'reject', 'hold'])
      .default('defer')
      .describe(
        '`defer`: 450; `reject`: 550; `hold` (accounts only): take the mail and keep it in the quarantine until an operator releases the account.',
      ),
  })
  .superRefine((value, ctx) => {
    const problem = (path: string, message: string): void => ctx.addIssue({ code: 'custom', path: [path], message });
    if (value.messages === undefined && value.recipients === undefined)
      problem('messages', "A limit needs 'messages' or 'recipients'");
    if (value.per === 'recipient' && value.recipients !== undefined)
      problem('recipients', "A limit per recipient counts 'messages'");
    if (value.action === 'hold' && value.per !== 'account') problem('action', "'hold' is for limits per account");
    if (value.window < 1000 || value.window > longestMs) problem('window', 'Expected a window from 1s to 14d');
  });
export type Limit = z.infer<typeof limit>;

export const options = z.strictObject({
  limits: z.array(limit).default([]).describe('All of them hold; several for the same thing are fine.'),
  ipv4Prefix: z.number().int().min(8).max(32).default(24).describe('Size of an IPv4 `network`.'),
  ipv6Prefix: z.number().int().min(16).max(64).default(48).describe('Size of an IPv6 `network`.'),
  exempt: z
    .array(z.string())
    .default([])
    .describe('Networks, accounts, senders, recipients and domains that no limit concerns.'),
  alert: z
    .boolean()
    .default(true)
    .describe('Tell the postmaster by mail when an account goes over a limit, once for each window.'),
  alertTo: z
    .array(z.string())
    .default([])
    .describe(
      'Who is told; default: `queue.postmaster` of the configuration, or else the postmaster of the account’s domain, which must then be a mailbox.',
    ),
  maxKeys: z
    .number()
    .int()
    .min(100)
    .default(100_000)
    .describe('Most addresses, senders … that each limit counts; beyond that the one unseen for longest is forgotten.'),
});
export type RateLimitOptions = z.infer<typeof options>;
