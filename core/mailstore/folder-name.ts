// Mailbox names and their directories: Maildir++ (`.Parent.Child` beside `cur/`), each part in modified UTF-7 as Dovecot
// writes it (RFC 3501 §5.1.3). The hierarchy delimiter of clients is `/`. A dot inside a part is written `&AC4-`, which no
// canonical modified UTF-7 contains, so it comes back as a dot. Invariant: nameOf(directoryOf(name)) === name.
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../mail/modified-utf7.ts';
import { MailboxError } from './mailbox.ts';

export const delimiter = '/';
const maxDirectoryBytes = 255;

const escapedDot = '&AC4-';

const encodePart = (part: string): string => encodeModifiedUtf7(part).replaceAll('.', escapedDot);

function decodePart(part: string): string | undefined {
  const pieces = part.split(escapedDot).map(decodeModifiedUtf7);
  return pieces.includes(undefined) ? undefined : pieces.join('.');
}

/** RFC 3501 §5.1: INBOX in any case, also as first part, is spelt `INBOX`. Throws `cannot` for a name no directory can have. */
export function canonicalName(name: string): string {
  const parts = name.split(delimiter);
  if (parts.some(part => part === '')) throw new MailboxError('cannot', `Mailbox name "${name}" has an empty part`);
  if (/\p{Cs}/u.test(name)) throw new MailboxError('cannot', `Mailbox name "${name}" is not Unicode`);
  if (parts[0]?.toUpperCase() === 'INBOX') parts[0] = 'INBOX';
  return parts.join(delimiter);
}

/** Directory below the Maildir's root: `''` for INBOX, `.A.B` for `A/B`. */
export function directoryOf(name: string): string {
  const canonical = canonicalName(name);
  if (canonical === 'INBOX') return '';
  const directory = `.${canonical.split(delimiter).map(encodePart).join('.')}`;
  if (directory.length > maxDirectoryBytes) throw new MailboxError('limit', `Mailbox name "${name}" is too long`);
  return directory;
}

/** The mailbox that a directory holds; undefined where it is none of ours (not canonical: it could not be opened again). */
export function nameOf(directory: string): string | undefined {
  if (directory === '') return 'INBOX';
  if (!directory.startsWith('.') || directory.includes(delimiter)) return undefined;
  const parts = directory.slice(1).split('.').map(decodePart);
  if (parts.includes(undefined) || parts.includes('')) return undefined;
  const name = parts.join(delimiter);
  return name !== 'INBOX' && canonicalName(name) === name ? name : undefined;
}

/** `A`, `A/B` for `A/B/C`: nearest last. */
export function parentsOf(name: string): readonly string[] {
  const parts = name.split(delimiter);
  return parts.slice(1).map((_, count) => parts.slice(0, count + 1).join(delimiter));
}
