// A file of the maildrop: one line of JSON (the envelope), then the message with CRLF line ends. A file is whole once it
// has its final name, `ID.mail`; before that it is called `ID.part`.
//
// Who may do what is a matter of the folder's mode, 3777: anybody may add files and remove his own (sticky), the files
// belong to the group of the gateway (setgid) and have mode 0640, so that only he and the gateway read them, and the
// owner of a file is who submitted it: nobody can forge that.
import { isRandomId } from '../lib/random-id.ts';
import { parseMailbox } from '../mail/address.ts';
import type { Recipient, ReversePath } from '../mail/envelope.ts';

export const maildropMode = 0o3777;
export const maildropFileMode = 0o640;
/** Longest envelope line, bytes. */
export const maxEnvelopeBytes = 1_048_576;

export interface MaildropEnvelope {
  readonly sender: ReversePath;
  readonly recipients: readonly Recipient[];
  readonly ret?: 'FULL' | 'HDRS';
  readonly envid?: string;
}

type Notify = NonNullable<Recipient['notify']>;
interface Written {
  readonly version: 1;
  readonly sender: string;
  readonly recipients: readonly string[];
  readonly notify?: Notify;
  readonly ret?: 'FULL' | 'HDRS';
  readonly envid?: string;
}

export const maildropName = (id: string): string => `${id}.mail`;
export const isMaildropName = (name: string): boolean => name.endsWith('.mail') && isRandomId(name.slice(0, -5));
export const isPartName = (name: string): boolean => name.endsWith('.part') && isRandomId(name.slice(0, -5));

export function writeEnvelope(envelope: MaildropEnvelope): Buffer {
  const notify = envelope.recipients[0]?.notify;
  const written: Written = {
    version: 1,
    sender: envelope.sender?.text ?? '',
    recipients: envelope.recipients.map(each => each.address.text),
    ...(notify === undefined ? {} : { notify }),
    ...(envelope.ret === undefined ? {} : { ret: envelope.ret }),
    ...(envelope.envid === undefined ? {} : { envid: envelope.envid }),
  };
  return Buffer.from(`${JSON.stringify(written)}\n`);
}

const isNotify = (value: unknown): value is Notify =>
  Array.isArray(value) && value.every(word => ['never', 'success', 'failure', 'delay'].includes(word as string));

/** Anybody may have written it, so nothing is taken on trust. Undefined where it is not what `writeEnvelope` makes. */
export function readEnvelope(line: string): MaildropEnvelope | undefined {
  let value: Partial<Record<keyof Written, unknown>>;
  try {
    value = JSON.parse(line) as typeof value;
  } catch {
    return undefined;
  }
  if (value === null || typeof value !== 'object' || value.version !== 1) return undefined;
  const { sender, recipients, notify, ret, envid } = value;
  if (typeof sender !== 'string' || !Array.isArray(recipients) || recipients.length === 0) return undefined;
  const from = sender === '' ? null : parseMailbox(sender, { smtputf8: true });
  if (from?.kind === 'error') return undefined;
  const to = recipients.map(each => (typeof each === 'string' ? parseMailbox(each, { smtputf8: true }) : undefined));
  const good = to.flatMap(each => (each?.kind === 'address' ? [each.address] : []));
  if (good.length !== to.length) return undefined;
  return {
    sender: from?.address ?? null,
    recipients: good.map(address => (isNotify(notify) ? { address, notify } : { address })),
    ...(ret === 'FULL' || ret === 'HDRS' ? { ret } : {}),
    ...(typeof envid === 'string' && /^[\x21-\x7e]{1,100}$/.test(envid) ? { envid } : {}),
  };
}
