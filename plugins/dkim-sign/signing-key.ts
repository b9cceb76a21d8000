// A private key from a PEM file, and whether its public half is published.
import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { type Host, parseSigningKey, publishesKey } from '../../core/plugin/index.ts';

export interface SigningKey {
  readonly domain: string;
  readonly selector: string;
  readonly privateKey: KeyObject;
  published(): Promise<'published' | 'not in the DNS' | 'another key is in the DNS' | 'the DNS does not answer'>;
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
  const privateKey = parseSigningKey(pem, file);
  return {
    domain,
    selector,
    privateKey,
    async published() {
      const answer = await host.dns.txt(`${selector}._domainkey.${domain}`);
      if (answer.kind === 'tempfail') return 'the DNS does not answer';
      if (answer.kind === 'none') return 'not in the DNS';
      const found = answer.records.some(record => publishesKey(record, privateKey));
      return found ? 'published' : 'another key is in the DNS';
    },
  };
}
