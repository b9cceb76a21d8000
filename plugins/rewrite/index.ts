// Addresses rewritten by tables: four lists that know nothing of one another, for the envelope's sender and recipients and
// for the header's. Order within each: its tables (canonical), then masquerading. Header fields are changed in their
// place; a message none of whose addresses change keeps every byte.
import {
  type Address,
  accept,
  defer,
  definePlugin,
  type Edit,
  fieldText,
  type Gate,
  type Host,
  type InMail,
  type LookupSource,
  lookupSource,
  type MessageAnswer,
  openLookup,
  parseDomain,
  pass,
  type Recipient,
  type Reply,
  reject,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { type AddressRules, rewriteAddress } from './addresses.ts';
import { changeAddresses } from './header-addresses.ts';
import { createMasquerade } from './masquerade.ts';

const classes = ['envelopeSender', 'envelopeRecipient', 'headerSender', 'headerRecipient'] as const;
type Class = (typeof classes)[number];

const tables = (what: string) =>
  z.array(lookupSource()).default([]).describe(`${what} Asked in order, the first that knows the address counts.`);

const options = z.strictObject({
  envelopeSender: tables('Tables for the envelope sender; the null sender is never looked up.'),
  envelopeRecipient: tables('Tables for envelope recipients.'),
  headerSender: tables(
    'Tables for From, Sender, Reply-To, Return-Receipt-To, Disposition-Notification-To, Errors-To and their Resent- forms.',
  ),
  headerRecipient: tables('Tables for To, Cc, Bcc, Apparently-To and their Resent- forms.'),
  masquerade: z
    .strictObject({
      domains: z
        .array(z.string().min(1))
        .default([])
        .describe(
          '`example.org` turns `bob@pc7.example.org` into `bob@example.org`; `!pc7.example.org` in front of it makes an exception.',
        ),
      exceptUsers: z.array(z.string()).default([]).describe('Names that are left as they are, such as `root`.'),
      classes: z
        .array(z.enum(classes))
        .default(['envelopeSender', 'headerSender', 'headerRecipient'])
        .describe('Which of the four are masqueraded.'),
    })
    .prefault({})
    .describe('Hides the names of inner hosts.'),
  headers: z
    .enum(['inside', 'any', 'none'])
    .default('inside')
    .describe(
      'Whose headers are rewritten: of authenticated users and relay networks, of all, or of nobody. A DKIM signature that exists already would break.',
    ),
  envelope: z.enum(['inside', 'any']).default('any').describe('Whose envelope is rewritten.'),
  origin: z.string().optional().describe('Domain of results that have none; default: the host name of the gateway.'),
  delimiter: z
    .string()
    .max(1)
    .default('+')
    .describe('Between a name and its extension; an extension goes on with the result. Empty: none.'),
});
type Options = z.infer<typeof options>;

const senderFields =
  /^(?:resent-)?(?:from|sender|reply-to)$|^(?:return-receipt-to|disposition-notification-to|errors-to)$/i;
const recipientFields = /^(?:resent-)?(?:to|cc|bcc)$|^apparently-to$/i;

const unknownUser: Reply<5> = { code: 550, enhanced: '5.1.1', text: 'No such user here' };
const unavailable: Reply<4> = {
  code: 451,
  enhanced: '4.3.0',
  text: 'Recipient cannot be verified now, please try again later',
};

/** What became of the addresses of one message, for its trace. */
interface Notes {
  readonly changed: string[];
  readonly problems: string[];
}
const maxNotes = 30;

type Change = (address: Address, notes: Notes) => Address;

function createChanges(settings: Options, host: Host): Readonly<Record<Class, Change>> {
  const { masquerade, delimiter } = settings;
  const origin = parseDomain(settings.origin ?? host.hostname);
  if (origin === undefined) throw new Error(`Option 'origin': '${settings.origin}' is no domain`);
  const mask = createMasquerade(masquerade.domains, masquerade.exceptUsers);
  const make = (name: Class, sources: readonly LookupSource[]): Change => {
    const table = openLookup(sources, host.resolvePath);
    const rules: AddressRules = {
      table,
      delimiter,
      origin,
      isLocal: domain => host.mailboxes.domainKind(domain) === 'local',
    };
    const masked = masquerade.classes.includes(name) && masquerade.domains.length > 0;
    return (address, notes) => {
      const found = table.size > 0 ? rewriteAddress(rules, address) : ({ kind: 'same' } as const);
      if (found.kind === 'invalid') notes.problems.push(`${address.text}: '${found.result}' is no address`);
      if (found.kind === 'changed' && found.loop) notes.problems.push(`${address.text}: the tables go in circles`);
      const mapped = found.kind === 'changed' ? found.address : address;
      const result = masked ? mask(mapped) : mapped;
      if (result.text !== address.text && notes.changed.length < maxNotes)
        notes.changed.push(`${address.text} → ${result.text}`);
      return result;
    };
  };
  return {
    envelopeSender: make('envelopeSender', settings.envelopeSender),
    envelopeRecipient: make('envelopeRecipient', settings.envelopeRecipient),
    headerSender: make('headerSender', settings.headerSender),
    headerRecipient: make('headerRecipient', settings.headerRecipient),
  };
}

function createRewriter(settings: Options, host: Host) {
  const change = createChanges(settings, host);
  const isInside = (at: InMail): boolean => at.identity !== undefined || host.isRelayClient(at.session.remote.address);
  const concerns = (whose: 'inside' | 'any' | 'none', at: InMail): boolean =>
    whose === 'any' || (whose === 'inside' && isInside(at));

  /** A recipient that only exists under its new address: nobody behind would know it. */
  async function rcpt(at: InMail, { address }: Recipient): Promise<Gate> {
    if (
      !concerns(settings.envelope, at) ||
      address.domain === '' ||
      host.mailboxes.domainKind(address.domain) === 'foreign'
    )
      return pass;
    const notes: Notes = { changed: [], problems: [] };
    const target = change.envelopeRecipient(address, notes);
    if (target.text.toLowerCase() === address.text.toLowerCase()) return pass;
    at.evidence({ rewritten: notes.changed[0], ...(notes.problems.length > 0 && { problems: notes.problems }) });
    const kind = host.mailboxes.domainKind(target.domain);
    if (kind === 'foreign' || kind === 'relay' || target.local.toLowerCase() === 'postmaster') return accept;
    const found = await host.mailboxes.exists(target.text, at.signal);
    if (found.kind === 'found' || found.kind === 'unchecked') return accept;
    if (found.kind === 'none')
      return reject(unknownUser, `No mailbox '${target.text}', to which '${address.text}' is rewritten`);
    return defer(unavailable, `Directory: ${found.why}`);
  }

  function envelopeEdits(at: WithMessage, notes: Notes): readonly Edit[] {
    const { sender, recipients } = at.envelope;
    const edits: Edit[] = [];
    const from = sender && change.envelopeSender(sender, notes);
    if (sender && from && from.text !== sender.text) edits.push({ kind: 'set-sender', address: from.text });
    for (const { address } of recipients) {
      if (address.domain === '') continue;
      const to = change.envelopeRecipient(address, notes);
      if (to.text === address.text) continue;
      if (to.text.toLowerCase() !== address.text.toLowerCase()) {
        edits.push({ kind: 'add-recipient', address: to.text, original: address.text });
        edits.push({ kind: 'remove-recipient', address: address.text });
      }
    }
    // One may be rewritten to what another one was: nothing that was added is removed again.
    const added = new Set(edits.flatMap(edit => (edit.kind === 'add-recipient' ? [edit.address.toLowerCase()] : [])));
    return edits.filter(edit => edit.kind !== 'remove-recipient' || !added.has(edit.address.toLowerCase()));
  }

  function headerEdits(at: WithMessage, notes: Notes): readonly Edit[] {
    const counts = new Map<string, number>();
    const edits: Edit[] = [];
    for (const field of at.message.headers) {
      const name = field.name.toLowerCase();
      const index = counts.get(name) ?? 0;
      counts.set(name, index + 1);
      const rule = senderFields.test(name)
        ? change.headerSender
        : recipientFields.test(name)
          ? change.headerRecipient
          : undefined;
      if (!rule) continue;
      const before = fieldText(field);
      const value = changeAddresses(before, address => rule(address, notes));
      if (value !== before) edits.push({ kind: 'replace-header', name: field.name, value, index, encoded: true });
    }
    return edits;
  }

  function message(at: WithMessage): MessageAnswer {
    const notes: Notes = { changed: [], problems: [] };
    const edits = [
      ...(concerns(settings.envelope, at) ? envelopeEdits(at, notes) : []),
      ...(concerns(settings.headers, at) ? headerEdits(at, notes) : []),
    ];
    if (notes.problems.length > 0) at.evidence({ problems: notes.problems.slice(0, maxNotes) });
    if (edits.length === 0) return pass;
    at.evidence({ rewritten: [...new Set(notes.changed)] });
    return { ...pass, edits };
  }
  return settings.envelopeRecipient.length > 0 ? { rcpt, message } : { message };
}

export const rewrite = definePlugin({
  name: 'rewrite',
  doc: 'Rewrites addresses of envelope and header by Postfix tables and rules, and hides inner host names. Put it behind `relay-policy` and before `aliases`.',
  options,
  setup: createRewriter,
});
