// The Sender Rewriting Scheme for mail that is forwarded: what leaves for a foreign domain with a foreign sender goes out
// under an address of our own, each recipient apart, so that local copies keep the sender. Bounces to such an address are
// recognised at RCPT by hash and date, and go on to the sender. Nobody else can send through us that way.
import {
  type Address,
  accept,
  createSrs,
  defaultSrs,
  definePlugin,
  duration,
  type Edit,
  type Gate,
  type Host,
  type InMail,
  type MessageAnswer,
  parseDomain,
  parseMailbox,
  pass,
  type Recipient,
  type Reply,
  reject,
  type Srs,
  secret,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { srsReversed } from './results.ts';

const options = z.strictObject({
  domain: z
    .string()
    .min(1)
    .describe('Domain of rewritten senders: one of ours, whose mail comes to this gateway, best with an SPF record.'),
  secrets: z
    .array(secret())
    .min(1)
    .describe('The first makes addresses, all are good for those that come back: put a new one in front to rotate.'),
  maxAge: duration().prefault('21d').describe('How long an address is good for bounces, in whole days.'),
  hashLength: z
    .number()
    .int()
    .min(4)
    .max(27)
    .default(defaultSrs.hashLength)
    .describe('Characters of the hash. More are safer and make longer addresses; shorter ones are not taken back.'),
  separator: z.enum(['=', '+', '-']).default(defaultSrs.separator).describe('Character behind `SRS0` and `SRS1`.'),
  exclude: z
    .array(z.string().min(1))
    .default([])
    .describe('Domains of senders that are left as they are; `.example.org` stands for all below it.'),
  relayDomains: z
    .boolean()
    .default(false)
    .describe('Rewrites also for recipients in our `relay` domains, for a next hop that checks SPF itself.'),
  acceptFrom: z
    .enum(['bounces', 'anyone'])
    .default('bounces')
    .describe('Who may send to a rewritten address: the null sender alone, or anyone.'),
});
type Options = z.infer<typeof options>;

const dayMs = 86_400_000;
const unknownUser: Reply<5> = { code: 550, enhanced: '5.1.1', text: 'No such user here' };
const bouncesOnly: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'This address takes delivery reports only' };

function openSrs(settings: Options, host: Host): Srs {
  const domain = parseDomain(settings.domain);
  if (domain === undefined) throw new Error(`Option 'domain': '${settings.domain}' is no domain`);
  if (host.mailboxes.domainKind(domain) === 'foreign')
    throw new Error(
      `Option 'domain': '${domain}' is not among the domains of this gateway, so no bounce would come back`,
    );
  const secrets = settings.secrets.map(reference => host.readSecret(reference));
  return createSrs({
    domain,
    secrets,
    maxAgeDays: Math.floor(settings.maxAge / dayMs),
    hashLength: settings.hashLength,
    separator: settings.separator,
  });
}

function createForwarder(settings: Options, host: Host) {
  const srs = openSrs(settings, host);
  const own = parseDomain(settings.domain);
  const excluded = settings.exclude.map(name => name.toLowerCase());
  const isExcluded = (domain: string): boolean =>
    excluded.some(name => domain === name || (name.startsWith('.') && domain.endsWith(name)));
  const isForeign = (domain: string): boolean => domain !== '' && host.mailboxes.domainKind(domain) === 'foreign';

  function rcpt(at: InMail, { address }: Recipient): Gate {
    if (address.domain !== own) return pass;
    const found = srs.reverse(address, host.clock.now());
    if (found.kind === 'not-srs') return pass;
    at.evidence({ srs: found.kind === 'address' ? found.address.text : found.kind });
    if (found.kind !== 'address') return reject(unknownUser, `Rewritten address is ${found.kind}`);
    if (settings.acceptFrom === 'bounces' && at.envelope.sender !== null)
      return reject(bouncesOnly, 'Mail to a rewritten address that is no bounce');
    at.set(srsReversed, { ...at.get(srsReversed), [address.text]: found.address.text });
    return accept;
  }

  const leaves = (domain: string): boolean =>
    isForeign(domain) || (settings.relayDomains && host.mailboxes.domainKind(domain) === 'relay');

  /** Bounces that came back go on to the sender. */
  function reversed(at: WithMessage): readonly Edit[] {
    return Object.entries(at.get(srsReversed) ?? {})
      .filter(([given]) => at.envelope.recipients.some(({ address }) => address.text === given))
      .flatMap(([given, address]): readonly Edit[] => [
        { kind: 'add-recipient', address, original: given },
        { kind: 'remove-recipient', address: given },
      ]);
  }

  const isRewritten = (sender: Address): boolean => isForeign(sender.domain) && !isExcluded(sender.domain);

  // What rules redirect is forwarded mail, too.
  host.onForward((from, to) => {
    const [sender, recipient] = [parseMailbox(from), parseMailbox(to)];
    if (sender.kind !== 'address' || recipient.kind !== 'address') return undefined;
    if (!isRewritten(sender.address) || !leaves(recipient.address.domain)) return undefined;
    return srs.rewrite(sender.address, host.clock.now())?.text;
  });

  function rewritten(at: WithMessage): readonly Edit[] {
    const { sender, recipients } = at.envelope;
    if (!sender || !isRewritten(sender)) return [];
    const leaving = recipients.filter(({ address }) => leaves(address.domain));
    const address = leaving.length > 0 ? srs.rewrite(sender, host.clock.now()) : sender;
    // Too long to be rewritten: better under the sender's own name than not at all.
    if (!address) at.evidence({ srs: 'Sender is too long to be rewritten' });
    else if (address !== sender) {
      at.evidence({ sender: address.text });
      return leaving.map(to => ({
        kind: 'set-recipient-sender',
        recipient: to.address.text,
        address: address.text,
      }));
    }
    return [];
  }

  function message(at: WithMessage): MessageAnswer {
    const edits = [...reversed(at), ...rewritten(at)];
    return edits.length > 0 ? { ...pass, edits } : pass;
  }
  return { rcpt, message };
}

export const srs = definePlugin({
  name: 'srs',
  doc: 'Forwarded mail goes out under a sender of our own domain (SRS), and its bounces find the way back. Put it behind `aliases` and before `recipients`.',
  options,
  writes: [srsReversed],
  setup: createForwarder,
});
