// Does the recipient exist? Accepts those that do and refuses the others in the session, so that no bounce goes to a
// sender who may be forged. A directory that cannot answer gives 451 and never "unknown user" (invariant I4).
// It never looks at the sender: the null sender is accepted for every valid recipient (invariant I6).
import {
  type Address,
  accept,
  defer,
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
  relayDomains: z
    .enum(['accept', 'check'])
    .default('check')
    .describe(
      'Recipients in `relay` domains: those that the `recipients` of the domain know (a domain without any takes all: the next hop decides while the client waits), or all in any case.',
    ),
});

const unknownUser: Reply<5> = { code: 550, enhanced: '5.1.1', text: 'No such user here' };
const incomplete: Reply<5> = { code: 550, enhanced: '5.1.3', text: 'Recipient address needs a domain' };
const unavailable: Reply<4> = {
  code: 451,
  enhanced: '4.3.0',
  text: 'Recipient cannot be verified now, please try again later',
};

async function lookUp(at: InMail, address: Address, host: Host): Promise<Gate> {
  // Subaddresses (`bob+lists`) are the directory's business: `recipientDelimiter` of the configuration.
  const found = await host.mailboxes.exists(address.text, at.signal);
  switch (found.kind) {
    case 'found':
    case 'unchecked':
      at.evidence({ mailbox: found.kind, ...(found.kind === 'found' && found.why ? { why: found.why } : {}) });
      return accept;
    case 'unavailable':
      return defer(unavailable, `Directory: ${found.why}`);
    case 'none':
      return reject(unknownUser, `No mailbox '${address.text}'${found.why ? `: ${found.why}` : ''}`);
  }
}

export const recipients = definePlugin({
  name: 'recipients',
  doc: 'Accepts recipients that have a mailbox here and refuses unknown ones in the session.',
  options,
  setup(settings, host) {
    return {
      rcpt(at, { address }) {
        const kind = address.domain === '' ? 'local' : host.mailboxes.domainKind(address.domain);
        if (kind === 'foreign') return pass;
        // RFC 5321 §4.5.1: mail for the postmaster is taken in every domain of ours, also without a domain.
        if (address.local.toLowerCase() === 'postmaster') return accept;
        if (address.domain === '') return reject(incomplete, `Local part '${address.local}' without a domain`);
        if (kind === 'relay' && settings.relayDomains === 'accept') return accept;
        return lookUp(at, address, host);
      },
    };
  },
});
