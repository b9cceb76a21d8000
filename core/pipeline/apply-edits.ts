// Edits are data. All of one answer are applied or, if one of them is impossible, none: nothing here changes what it was
// given. Applied only after the hook returned in time, so a plugin that dies half-way leaves the message as it was.
import { type Address, parseMailbox, sameAddress } from '../mail/address.ts';
import type { KeptOriginal } from '../mail/deliverable.ts';
import type { Recipient, ReversePath } from '../mail/envelope.ts';
import { editHeaders, type HeaderEdit } from '../mail/header-edit.ts';
import { type Message, withBody, withHeaders } from '../mail/message.ts';
import { bufferRope, type Rope } from '../mail/rope.ts';
import type { Edit } from '../plugin/verdicts.ts';

/** A message on its way through the chain. */
export interface Draft {
  readonly message: Message;
  readonly sender: ReversePath;
  readonly recipients: readonly Recipient[];
  /** New recipient → the one that the client named, both as canonical text. */
  readonly originals: ReadonlyMap<string, string>;
  readonly kept?: KeptOriginal;
  readonly forged?: boolean;
}

/** `known`: names a recipient that is there already, which may be a bare `postmaster`. */
function mailbox(text: string, known = false): Address {
  const parsed = parseMailbox(text, { smtputf8: true, bareLocal: known });
  if (parsed.kind === 'error') throw new Error(`Edit names '${text}', which is no address (${parsed.reason})`);
  return parsed.address;
}

/** A recipient that differs in case only is the same mailbox to every system that is in use. */
const same = (a: Address, b: Address): boolean => sameAddress(a, b, 'insensitive');

/** The new recipient keeps the DSN parameters of the one that it stands for (RFC 3461 §5.2.7.1). */
function addRecipient(draft: Draft, named: readonly Recipient[], text: string, original: string | undefined): Draft {
  const address = mailbox(text);
  const source = original === undefined ? undefined : mailbox(original, true);
  const originals = source ? new Map(draft.originals).set(address.text, root(draft, source.text)) : draft.originals;
  if (draft.recipients.some(recipient => same(recipient.address, address))) return { ...draft, originals };
  const parent = source && named.find(recipient => same(recipient.address, source));
  return { ...draft, originals, recipients: [...draft.recipients, { ...parent, address }] };
}

/** Through aliases of aliases back to the recipient that the client named. */
const root = (draft: Draft, text: string): string => draft.originals.get(text) ?? text;

type EnvelopeEdit = Extract<
  Edit,
  { readonly kind: 'set-sender' | 'set-recipient-sender' | 'add-recipient' | 'remove-recipient' }
>;

function editEnvelope(draft: Draft, named: readonly Recipient[], edit: EnvelopeEdit): Draft {
  switch (edit.kind) {
    case 'set-sender':
      return { ...draft, sender: edit.address === null ? null : mailbox(edit.address) };
    case 'set-recipient-sender': {
      const [meant, sender] = [mailbox(edit.recipient, true), mailbox(edit.address)];
      const changed = (recipient: Recipient): Recipient =>
        same(recipient.address, meant) ? { ...recipient, sender } : recipient;
      return { ...draft, recipients: draft.recipients.map(changed) };
    }
    case 'add-recipient':
      return addRecipient(draft, named, edit.address, edit.original);
    case 'remove-recipient': {
      const gone = mailbox(edit.address, true);
      return { ...draft, recipients: draft.recipients.filter(recipient => !same(recipient.address, gone)) };
    }
  }
}

type KeepEdit = Extract<Edit, { readonly kind: 'quarantine-original' }>;
const keptOriginal = ({ message }: Draft, plugin: string, { reason = 'policy', why }: KeepEdit): KeptOriginal => ({
  message,
  plugin,
  reason,
  why,
});

/** `plugin`: whose edits these are. Throws where an edit names no address or where nobody would be left to receive the message. */
export function applyEdits(before: Draft, edits: readonly Edit[], plugin: string): Draft {
  let draft = before;
  let body: Rope | undefined;
  const onHeaders: HeaderEdit[] = [];
  for (const edit of edits)
    switch (edit.kind) {
      case 'set-sender':
      case 'set-recipient-sender':
      case 'add-recipient':
      case 'remove-recipient':
        draft = editEnvelope(draft, before.recipients, edit);
        break;
      case 'mark-forged':
        draft = { ...draft, forged: true };
        break;
      case 'replace-body':
        body = Buffer.isBuffer(edit.body) ? bufferRope(edit.body) : edit.body;
        break;
      case 'quarantine-original':
        if (!draft.kept) draft = { ...draft, kept: keptOriginal(before, plugin, edit) };
        break;
      default:
        onHeaders.push(edit);
    }
  if (draft.recipients.length === 0 && before.recipients.length > 0)
    throw new Error('Edits leave no recipient: a plugin that drops a message answers discard');
  let message = before.message;
  if (body) message = withBody(message, body);
  if (onHeaders.length > 0) message = withHeaders(message, editHeaders(message.headers, onHeaders));
  return message === draft.message ? draft : { ...draft, message };
}
