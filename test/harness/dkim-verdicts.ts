// Signatures by another implementation: mailauth signs, and says what it thinks of the signatures of a message.
import { dkimSign } from 'mailauth/lib/dkim/sign.js';
import { dkimVerify as verify } from 'mailauth/lib/dkim/verify.js';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';

/** `result domain` of each signature. `dnsServer`: where the keys are. */
export async function dkimVerify(message: Buffer, dnsServer: string): Promise<readonly string[]> {
  const dns = createDns({ clock: systemClock, servers: [dnsServer] });
  try {
    const resolver = async (name: string) => {
      const answer = await dns.txt(name);
      if (answer.kind !== 'found') throw Object.assign(new Error(answer.kind), { code: 'ENOTFOUND' });
      return answer.records.map(record => [record]);
    };
    const { results } = await verify(message, { resolver });
    return results.map(each => `${each.status.result} ${each.signingDomain}`);
  } finally {
    dns.close();
  }
}

export interface SignAs {
  readonly domain: string;
  readonly selector: string;
  /** PEM */
  readonly privateKey: string;
  readonly canonicalization: 'relaxed/relaxed' | 'simple/simple' | 'relaxed/simple';
}

/** The message with a signature in front. */
export async function dkimSigned(message: Buffer, as: SignAs): Promise<Buffer> {
  const { signatures, errors } = await dkimSign(message, {
    canonicalization: as.canonicalization,
    signatureData: [
      { signingDomain: as.domain, selector: as.selector, privateKey: as.privateKey, algorithm: 'rsa-sha256' },
    ],
  } as Parameters<typeof dkimSign>[1]);
  if (errors.length > 0) throw new Error(`Cannot sign: ${JSON.stringify(errors)}`);
  return Buffer.concat([Buffer.from(signatures), message]);
}
