// Mailbox names and their directories: Maildir++ (`.Parent.Child` beside `cur/`), each part in modified UTF-7 as Dovecot
// writes it (RFC 3501 §5.1.3). The hierarchy delimiter of clients is `/`. A dot inside a part is written `&AC4-`, which no
// canonical modified UTF-7 contains, so it comes back as a dot. Invariant: nameOf(directoryOf(name)) === name.
import { MailboxError } from './mailbox.ts';

export const delimiter = '/';
const maxDirectoryBytes = 255;

/** RFC 3501 §5.1.3: printable ASCII as itself, `&` as `&-`, all else as base64 of UTF-16 with `,` for `/`. */
function encodePart(part: string): string {
  return part.replace(/&|[^\x20-\x2d\x2f-\x7e]+/g, run => {
    if (run === '&') return '&-';
    const utf16 = Buffer.from(run, 'utf16le').swap16();
    return `&${utf16.toString('base64').replaceAll('/', ',').replace(/=+$/, '')}-`;
  });
}

function decodePart(part: string): string {
  return part.replace(/&([A-Za-z0-9+,]*)-/g, (_, code: string) => {
    if (code === '') return '&';
    const bytes = Buffer.from(code.replaceAll(',', '/'), 'base64');
    return bytes
      .subarray(0, bytes.length & ~1)
      .swap16()
      .toString('utf16le');
  });
}

/** RFC 3501 §5.1: INBOX in any case, also as first part, is spelt `INBOX`. Throws `cannot` for a name no directory can have. */
export function canonicalName(name: string): string {
  const parts = name.split(delimiter);
  if (parts.some(part => part === '')) throw new MailboxError('cannot', `Mailbox name "${name}" has an empty part`);
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
  if (!directory.startsWith('.') || directory.length < 2) return undefined;
  const name = directory.slice(1).split('.').map(decodePart).join(delimiter);
  try {
    return directoryOf(name) === directory ? name : undefined;
  } catch (error) {
    if (error instanceof MailboxError) return undefined;
    throw error;
  }
}

/** `A`, `A/B` for `A/B/C`: nearest last. */
export function parentsOf(name: string): readonly string[] {
  const parts = name.split(delimiter);
  return parts.slice(1).map((_, count) => parts.slice(0, count + 1).join(delimiter));
}
