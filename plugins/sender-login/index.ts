// Which account may send as which address: smtpd_sender_login_maps of Postfix, for the envelope and for what people see.
// An account owns its own address and what tables give it. Whoever did not log in owns nothing; whether he may use an
// address that has an owner is an option, for forwarders and lists do.
import {
  type Address,
  defer,
  definePlugin,
  displayName,
  type Gate,
  glob,
  type Host,
  type InMail,
  lookupSource,
  type MessageAnswer,
  mailboxesOf,
  type Of,
  openLookup,
  parseAddressList,
  parseDomain,
  parseMailbox,
  pass,
  type Reply,
  reject,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';

const options = z.strictObject({
  maps: z
    .array(lookupSource())
    .default([])
    .describe(
      'Tables from a sender address, a bare name or `@domain` to the accounts that own it, between commas or blanks, as `smtpd_sender_login_maps`.',
    ),
  own: z.boolean().default(true).describe('An account owns the address that is its name, with any extension.'),
  envelope: z
    .enum(['refuse', 'refuse-owned', 'ignore'])
    .default('refuse')
    .describe(
      'MAIL FROM of an authenticated client: must be an address of the account (`reject_authenticated_sender_login_mismatch`), may also be one that nobody owns (`reject_known_sender_login_mismatch`), or any.',
    ),
  from: z
    .enum(['refuse', 'refuse-owned', 'tag', 'ignore'])
    .default('refuse')
    .describe('The same for every address in the fields From and Sender; `tag` names the account in `header` instead.'),
  strangers: z
    .enum(['allow', 'refuse-owned'])
    .default('allow')
    .describe(
      'Whether clients that did not log in may use addresses that have an owner (`reject_unauthenticated_sender_login_mismatch`). `refuse-owned` also stops forwarders and lists that bring our own mail back; relay networks are always free.',
    ),
  exempt: z
    .array(z.string().min(1))
    .default([])
    .describe('Accounts that may send as anybody; `*` stands for anything.'),
  header: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{1,70}$/, 'Expected a header field name')
    .default('X-Authenticated-Sender')
    .describe('Field for `from: tag`.'),
  delimiter: z.string().max(1).default('+').describe('Between a name and its extension. Empty: none.'),
});
type Options = z.infer<typeof options>;

// RFC 5321 leaves the choice; 553 5.7.1 is what Postfix says.
const notOwned: Reply<5> = { code: 553, enhanced: '5.7.1', text: 'Sender address not allowed for this account' };
const notLoggedIn: Reply<5> = { code: 553, enhanced: '5.7.1', text: 'Sender address needs authentication' };
const unavailable: Reply<4> = {
  code: 451,
  enhanced: '4.3.0',
  text: 'Sender cannot be verified now, please try again later',
};
const maxAuthors = 100;

/** The directory does not say whose an address is (invariant I4). */
class Unavailable extends Error {}

async function orDefer<T>(answer: Promise<T>): Promise<T | Of<'defer'>> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Unavailable) return defer(unavailable, `Directory: ${error.message}`);
    throw error;
  }
}

function createOwners(settings: Options, host: Host) {
  const table = openLookup(settings.maps, host.resolvePath);
  const { delimiter } = settings;

  const baseOf = ({ local }: Address): string => {
    const cut = delimiter === '' ? -1 : local.indexOf(delimiter, 1);
    return cut < 0 ? local : local.slice(0, cut);
  };

  /** Accounts in lower case; undefined where no table knows the address. */
  function listed(address: Address): readonly string[] | undefined {
    const base = baseOf(address);
    const isLocal = host.mailboxes.domainKind(address.domain) === 'local';
    const value =
      table.find(address.text) ??
      (base === address.local ? undefined : table.findExact(`${base}@${address.domain}`)) ??
      (isLocal ? (table.findExact(address.local) ?? table.findExact(base)) : undefined) ??
      table.findExact(`@${address.domain}`);
    return value
      ?.toLowerCase()
      .split(/[\s,]+/)
      .filter(name => name !== '');
  }

  const isOwn = (account: string, address: Address): boolean =>
    settings.own && `${baseOf(address)}@${address.domain}`.toLowerCase() === account;

  return {
    size: table.size,
    owns: (account: string, address: Address): boolean =>
      isOwn(account, address) || (listed(address)?.includes(account) ?? false),
    /** Does it belong to anybody? */
    async hasOwner(address: Address, signal: AbortSignal): Promise<boolean> {
      if (listed(address) !== undefined) return true;
      if (!settings.own || host.mailboxes.domainKind(address.domain) === 'foreign') return false;
      const found = await host.mailboxes.exists(address.text, signal);
      if (found.kind === 'unavailable') throw new Unavailable(found.why);
      return found.kind === 'found';
    },
  };
}

/** Addresses of From and Sender; one that cannot be read stands as its text, for it is nobody's. */
function authors({ message: { headers } }: WithMessage): readonly (Address | string)[] {
  return ['from', 'sender']
    .flatMap(name => headers.all(name))
    .flatMap(({ value }) => mailboxesOf(parseAddressList(value)))
    .slice(0, maxAuthors)
    .map(mailbox => {
      const domain = parseDomain(mailbox.domain);
      const quoted = /^[\w!#$%&'*+/=?^`{|}~.-]+$/.test(mailbox.local) ? mailbox.local : JSON.stringify(mailbox.local);
      const parsed = domain === undefined ? undefined : parseMailbox(`${quoted}@${domain}`, { smtputf8: true });
      return parsed?.kind === 'address'
        ? parsed.address
        : `${mailbox.local}@${mailbox.domain} ${displayName(mailbox)}`.trim();
    });
}

function createCheck(settings: Options, host: Host) {
  const owners = createOwners(settings, host);
  const exempt = settings.exempt.map(glob);

  const accountOf = (at: InMail): string | undefined => at.identity?.name.toLowerCase();
  const isExempt = (account: string): boolean => exempt.some(fits => fits(account));

  async function mayUse(account: string, address: Address, mode: string, signal: AbortSignal): Promise<boolean> {
    if (owners.owns(account, address)) return true;
    return mode === 'refuse-owned' && !(await owners.hasOwner(address, signal));
  }

  async function mail(at: InMail): Promise<Gate> {
    const { sender } = at.envelope;
    // RFC 5321 §4.5.5: reports and receipts have no sender.
    if (!sender || sender.domain === '') return pass;
    const account = accountOf(at);
    if (account === undefined) {
      const free = settings.strangers === 'allow' || host.isRelayClient(at.session.remote.address);
      if (free || !(await owners.hasOwner(sender, at.signal))) return pass;
      return reject(notLoggedIn, `'${sender.text}' has an owner and the client did not log in`);
    }
    if (settings.envelope === 'ignore' || isExempt(account)) return pass;
    if (await mayUse(account, sender, settings.envelope, at.signal)) return pass;
    return reject(notOwned, `Account '${account}' sends as '${sender.text}'`);
  }

  async function message(at: WithMessage): Promise<MessageAnswer> {
    const account = accountOf(at);
    const { headers } = at.message;
    const forged = settings.from === 'tag' && headers.has(settings.header);
    const removed = forged ? [{ kind: 'remove-header', name: settings.header } as const] : [];
    if (account === undefined || settings.from === 'ignore' || isExempt(account))
      return removed.length > 0 ? { ...pass, edits: removed } : pass;
    const foreign: string[] = [];
    for (const author of authors(at))
      if (typeof author === 'string' || !(await mayUse(account, author, settings.from, at.signal)))
        foreign.push(typeof author === 'string' ? author : author.text);
    if (foreign.length === 0) return removed.length > 0 ? { ...pass, edits: removed } : pass;
    at.evidence({ account, sendsAs: foreign.slice(0, 10) });
    if (settings.from !== 'tag') return reject(notOwned, `Account '${account}' writes as '${foreign[0]}'`);
    return { ...pass, edits: [...removed, { kind: 'add-header', name: settings.header, value: account }] };
  }
  return { mail: (at: InMail) => orDefer(mail(at)), message: (at: WithMessage) => orDefer(message(at)) };
}

export const senderLogin = definePlugin({
  name: 'sender-login',
  doc: 'Which account may send as which address, in the envelope and in From and Sender.',
  options,
  setup: createCheck,
});
