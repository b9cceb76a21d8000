// Keys of DKIM and ARC: the private half from PEM, the public half as a DNS record. RFC 6376 §3.6.1, RFC 8463 §4.
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';

/** RFC 8301 §3.2: signers must use at least 1024 bits. */
const minBits = 1024;

/** Throws an Error that names `file`. */
export function parseSigningKey(pem: string, file: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw new Error(`'${file}' holds no private key`, { cause });
  }
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (key.asymmetricKeyType === 'ed25519' || (key.asymmetricKeyType === 'rsa' && bits >= minBits)) return key;
  throw new Error(`'${file}' holds a key that DKIM cannot use: RSA of ${minBits} bits or more, or Ed25519 expected`);
}

/** `p=` of the key's record, in each form in which it may be published; the first is ours. Of Ed25519 the bare 32 bytes. */
function publicForms(privateKey: KeyObject): readonly string[] {
  const key = createPublicKey(privateKey);
  const spki = key.export({ type: 'spki', format: 'der' });
  if (privateKey.asymmetricKeyType === 'ed25519') return [spki.subarray(-32).toString('base64')];
  return [spki, key.export({ type: 'pkcs1', format: 'der' })].map(der => der.toString('base64'));
}

export const keyRecord = (privateKey: KeyObject): string =>
  `v=DKIM1; k=${privateKey.asymmetricKeyType}; p=${publicForms(privateKey)[0]}`;

/** Is this the record of that key? */
export function publishesKey(record: string, privateKey: KeyObject): boolean {
  const published = /(?:^|;)\s*p\s*=\s*([^;]*)/.exec(record)?.[1]?.replace(/\s/g, '');
  return published !== undefined && publicForms(privateKey).includes(published);
}
