// Who may send where (invariant I2: never an open relay). Mail for our domains goes on to the plugins that know who
// exists there; mail for other domains is taken from authenticated users and configured networks, and from nobody else.
// It decides by the parsed address, whose one canonical form every spelling has. A local part that asks for another hop
// (`user%there`, `there!user`, `"user@there"`) is refused to strangers even in our domains: what is harmless here may
// not be so on the next hop.
import {
  type Address,
  accept,
  definePlugin,
  type Gate,
  type Host,
  type InMail,
  pass,
  type Reply,
  reject,
  z,
} from '../../core/plugin/index.ts';

const options = z.strictObject({
  authenticated: z.boolean().default(true).describe('Authenticated users may relay to anywhere.'),
  networks: z
    .boolean()
    .default(true)
    .describe('Clients in `relayNetworks` may relay to anywhere without AUTH, but never over LMTP.'),
  routedLocalParts: z
    .enum(['refuse', 'allow'])
    .default('refuse')
    .describe(
      'What strangers hear for `user%host`, `host!user` and `"user@host"` in our own domains. `allow` only where such mailboxes exist and no next hop reads them as a route.',
    ),
  foreignSenders: z
    .enum(['allow', 'refuse'])
    .default('allow')
    .describe('Whether authenticated users may send from domains that are not ours (RFC 6409 §6.1).'),
  ownSenders: z
    .enum(['allow', 'refuse'])
    .default('allow')
    .describe(
      'Whether strangers may send from our domains. `refuse` stops the crudest forgery and breaks mail that comes back through forwarders and lists.',
    ),
});

// RFC 5321 §3.6.2 leaves the code open; 554 5.7.1 is what senders know from elsewhere.
const relayDenied: Reply<5> = { code: 554, enhanced: '5.7.1', text: 'Relay access denied' };
const senderDenied: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Sender address not allowed here' };
// RFC 4954 §6
const authRequired: Reply<5> = { code: 530, enhanced: '5.7.0', text: 'Authentication required' };

/** `a%b@ours`, `b!a@ours`, `"a@b"@ours`, `"@b:a"@ours`: an old way of saying "send it on to b". */
const asksForHop = (address: Address): boolean => /[%!@:]/.test(address.local);

type Options = z.infer<typeof options>;

function createPolicy(settings: Options, host: Host) {
  const ours = (domain: string): boolean => domain === '' || host.mailboxes.domainKind(domain) !== 'foreign';
  /** May send to anywhere, and by which right. */
  const right = (at: InMail): 'authenticated' | 'network' | undefined => {
    // RFC 2033 §1: LMTP delivers, it does not relay.
    if (at.session.role === 'lmtp') return undefined;
    if (settings.authenticated && at.identity) return 'authenticated';
    if (settings.networks && host.isRelayClient(at.session.remote.address)) return 'network';
    return undefined;
  };

  function mail(at: InMail): Gate {
    const by = right(at);
    // The server asks for AUTH before it comes to this; a listener that does not shall not become a relay.
    if (at.session.role === 'submission' && !at.identity && !by)
      return reject(authRequired, 'Submission without authentication');
    const sender = at.envelope.sender;
    // The null sender is nobody's (RFC 5321 §4.5.5) and stays allowed: invariant I6.
    if (!sender || sender.domain === '') return pass;
    if (by === 'authenticated' && settings.foreignSenders === 'refuse' && !ours(sender.domain))
      return reject(senderDenied, `'${at.identity?.name}' sends from foreign domain '${sender.domain}'`);
    if (!by && settings.ownSenders === 'refuse' && at.session.role === 'smtp' && ours(sender.domain))
      return reject(senderDenied, `A stranger sends from our domain '${sender.domain}'`);
    return pass;
  }

  function rcpt(at: InMail, to: Address): Gate {
    const by = right(at);
    if (!ours(to.domain)) {
      at.evidence({ domain: to.domain, right: by ?? 'none' });
      return by ? accept : reject(relayDenied, `Domain '${to.domain}' is not ours and the client may not relay`);
    }
    if (!by && settings.routedLocalParts === 'refuse' && asksForHop(to))
      return reject(relayDenied, `Local part '${to.local}' asks for another hop`);
    // Whether it exists is the business of `aliases` and `recipients`.
    at.evidence({ domain: to.domain, kind: host.mailboxes.domainKind(to.domain) });
    return pass;
  }

  return { mail, rcpt };
}

export const relayPolicy = definePlugin({
  name: 'relay-policy',
  doc: 'Decides who may send to domains that are not ours. Put it before `aliases` and `recipients`.',
  options,
  setup(settings, host) {
    const policy = createPolicy(settings, host);
    return { mail: policy.mail, rcpt: (at, to) => policy.rcpt(at, to.address) };
  },
});
