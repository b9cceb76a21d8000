// What a server said → what we make of it. The sender, or whoever connected to us, hears general words for the status
// that the next hop gave; its own words name hosts, paths and rules, so they go to the log, and into a DSN only where the
// host is one out in the world (invariant I6).
import type { Reply } from '../mail/reply.ts';
import { replyText, type ServerReply } from './reply-reader.ts';

/** The shapes of the queue's `DeliveryOutcome`. */
export interface RelayRemote {
  readonly host: string;
  readonly text: string;
}
export type RelayOutcome =
  | { readonly kind: 'delivered'; readonly detail: string; readonly dsnPassed: boolean; readonly relayed: true }
  | {
      readonly kind: 'deferred';
      readonly reply: Reply<4>;
      readonly why: string;
      readonly destination?: boolean;
      readonly remote?: RelayRemote;
    }
  | { readonly kind: 'failed'; readonly reply: Reply<5>; readonly why: string; readonly remote?: RelayRemote };

/** By subject and detail of RFC 3463, most specific first. */
const words: readonly (readonly [pattern: RegExp, text: string])[] = [
  [/^.\.1\.1$/, 'Recipient address is unknown'],
  [/^.\.1\.(2|10)$/, 'Recipient domain takes no mail'],
  [/^.\.1\.[78]$/, 'Sender address was refused'],
  [/^.\.1\./, 'Address was refused'],
  [/^.\.2\.1$/, 'Mailbox is disabled'],
  [/^.\.2\.2$/, 'Mailbox is full'],
  [/^.\.2\.3$/, 'Message is too big for the mailbox'],
  [/^.\.2\./, 'Mailbox is unavailable'],
  [/^.\.3\.4$/, 'Message is too big for the destination'],
  [/^.\.4\.[46]$/, 'Destination cannot be reached'],
  [/^.\.5\.3$/, 'Too many recipients'],
  [/^.\.6\./, 'Content was refused by the destination'],
  [/^.\.7\./, 'Refused by a policy of the destination'],
];

const textOf = (enhanced: string, fallback: string): string =>
  words.find(([pattern]) => pattern.test(enhanced))?.[1] ?? fallback;

/** Codes that a `Reply` may carry; others become the general one of their class. */
const codes4 = [421, 450, 451, 452, 454] as const;
const codes5 = [550, 551, 552, 553, 554] as const;

function temporary(reply: ServerReply): Reply<4> {
  const enhanced = (reply.enhanced ?? '4.0.0') as Reply<4>['enhanced'];
  // 421 is between us and the next hop; passed on it would end the client's session.
  const code = reply.code === 421 ? 451 : (codes4.find(each => each === reply.code) ?? 451);
  return { code, enhanced, text: textOf(enhanced, 'Destination cannot take the message now') };
}

function permanent(reply: ServerReply): Reply<5> {
  const enhanced = (reply.enhanced ?? '5.0.0') as Reply<5>['enhanced'];
  const code = codes5.find(each => each === reply.code) ?? 554;
  return { code, enhanced, text: textOf(enhanced, 'Refused by the destination') };
}

/** A negative reply of `host`. `inner`: one of ours, whose words stay with us. */
export function refusedOutcome(reply: ServerReply, host: string, inner: boolean, stage: string): RelayOutcome {
  const text = replyText(reply).slice(0, 500);
  const said = inner ? {} : { remote: { host, text } };
  const why = `${host} at ${stage}: ${text}`;
  if (reply.code >= 500) return { kind: 'failed', reply: permanent(reply), why, ...said };
  return {
    kind: 'deferred',
    reply: temporary(reply),
    why,
    ...(reply.code === 421 ? { destination: true } : {}),
    ...said,
  };
}

/** The destination cannot be used now. */
export const troubleOutcome = (why: string, enhanced: Reply<4>['enhanced'] = '4.4.1'): RelayOutcome => ({
  kind: 'deferred',
  reply: { code: 451, enhanced, text: 'Destination cannot be reached now' },
  why,
  destination: true,
});

export const failedOutcome = (enhanced: Reply<5>['enhanced'], text: string, why: string): RelayOutcome => ({
  kind: 'failed',
  reply: { code: 550, enhanced, text },
  why,
});
