// A private key from a PEM file, and whether its public half is published as RFC 6376 §3.6.1 and RFC 8463 §4 want it.
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Host } from '../../core/plugin/index.ts';

export interface SigningKey {
  readonly domain: string;
  readonly selector: string;
  readonly privateKey: KeyObject;
  published(): Promise<'published' | 'not in the DNS' | 'another key is in the DNS' | 'the DNS does not answer'>;
}

/** RFC 8301 §3.2: signers must use at least 1024 bits. */
const minBits = 1024;

function parseKey(pem: string, file: string): KeyObject {
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

/** `p=` of the key's record, in each form in which it may be published. */
function publicForms(privateKey: KeyObject): readonly string[] {
  const key = createPublicKey(privateKey);
  const spki = key.export({ type: 'spki', format: 'der' });
  if (privateKey.asymmetricKeyType === 'ed25519') return [spki.subarray(-32).toString('base64')];
  return [spki, key.export({ type: 'pkcs1', format: 'der' })].map(der => der.toString('base64'));
}

/** Throws an Error that names the file. */
export async function readKey(
  { domain, selector, key }: { readonly domain: string; readonly selector: string; readonly key: string },
  host: Host,
): Promise<SigningKey> {
  const file = host.resolvePath(key);
  const pem = await readFile(file, 'utf8').catch((cause: Error) => {
    throw new Error(`Cannot read the key '${file}' of ${domain}: ${cause.message}`, { cause });
  });
  const privateKey = parseKey(pem, file);
  const expected = publicForms(privateKey);
  return {
    domain,
    selector,
    privateKey,
    async published() {
      const answer = await host.dns.txt(`${selector}._domainkey.${domain}`);
      if (answer.kind === 'tempfail') return 'the DNS does not answer';
      if (answer.kind === 'none') return 'not in the DNS';
      const found = answer.records.map(record => /(?:^|;)\s*p\s*=\s*([^;]*)/.exec(record)?.[1]?.replace(/\s/g, ''));
      return found.some(text => text !== undefined && expected.includes(text))
        ? 'published'
        : 'another key is in the DNS';
    },
  };
}
