// What would break if the body of a message were changed: signatures, and what is encrypted. Only looks for them; whether
// they are good is not the question.
import { decodeBody } from './body.ts';
import type { Message } from './message.ts';
import { type MimePart, walkParts } from './mime.ts';

export interface Seals {
  /** DKIM or ARC signatures, which hold on the way and are of no use in the mailbox. */
  readonly dkim: boolean;
  /** S/MIME or PGP: signed by a person, or encrypted. */
  readonly endToEnd: boolean;
}

/** How far into a text the armour of PGP is looked for, and in how many texts. */
const armourBytes = 4096;
const maxTexts = 20;
const armour = /^-----BEGIN PGP (?:SIGNED )?MESSAGE-----/m;

function isSealed({ contentType: { type, subtype, params } }: MimePart): boolean {
  // RFC 1847 §2
  if (type === 'multipart') return subtype === 'signed' || subtype === 'encrypted';
  // RFC 8551 §3.2, RFC 3156 §4
  if (type === 'application') return /^(?:x-)?pkcs7-(?:mime|signature)$|^pgp(?:-encrypted|-signature)?$/.test(subtype);
  return type === 'text' && params.get('x-action') === 'pgp-signed';
}

export async function findSeals(message: Message): Promise<Seals> {
  const dkim = message.headers.has('dkim-signature') || message.headers.has('arc-seal');
  const texts: MimePart[] = [];
  for (const part of walkParts(await message.mime())) {
    if (isSealed(part)) return { dkim, endToEnd: true };
    if (part.contentType.type === 'text' && part.parts.length === 0 && texts.length < maxTexts) texts.push(part);
  }
  for (const part of texts)
    if (armour.test((await decodeBody(message.rope, part, armourBytes)).toString('latin1')))
      return { dkim, endToEnd: true };
  return { dkim, endToEnd: false };
}
