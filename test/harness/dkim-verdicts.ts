// What another implementation says of the signatures of a message: mailauth, asked through the resolver given.
import { dkimVerify as verify } from 'mailauth/lib/dkim/verify.js';
import { systemClock } from '../../core/lib/clock.ts';
import { createDns } from '../../core/net/dns.ts';

/** `result domain` of each signature. */
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
