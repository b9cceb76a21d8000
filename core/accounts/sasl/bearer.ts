// OAUTHBEARER (RFC 7628) and its forerunner XOAUTH2. Who issued the token and whether it holds is `verifyToken`'s business.
import type { SaslContext, SaslMechanism, SaslStep } from './mechanism.ts';
import { challenge, clientFirst, decodeUtf8, fromAuthResult, malformed } from './mechanism.ts';

interface Bearer {
  readonly username: string;
  readonly token: string;
}

/** RFC 7628 §3.1: gs2-header, then key=value pairs, each ended by 0x01. */
function parseOauthBearer(text: string): Bearer | undefined {
  const match = /^(?:n|y),(?:a=([^,]*))?,\x01((?:[A-Za-z]+=[^\x01]*\x01)*)\x01$/.exec(text);
  const token = /(?:^|\x01)auth=Bearer +([A-Za-z0-9._~+/-]+=*)\x01/i.exec(match?.[2] ?? '')?.[1];
  const username = (match?.[1] ?? '').replaceAll('=2C', ',').replaceAll('=3D', '=');
  return token === undefined ? undefined : { username, token };
}

function parseXoauth2(text: string): Bearer | undefined {
  const match = /^user=([^\x01]+)\x01auth=Bearer +([^\x01]+)\x01\x01$/i.exec(text);
  return match === null ? undefined : { username: match[1] ?? '', token: match[2] ?? '' };
}

const mechanism = (name: string, parse: (text: string) => Bearer | undefined, failure: string): SaslMechanism => ({
  name,
  plaintext: true,
  start(context: SaslContext) {
    async function first(response: Buffer): Promise<SaslStep> {
      const bearer = parse(decodeUtf8(response) ?? '');
      if (bearer === undefined) return malformed(`${name} message is malformed`);
      if (context.verifyToken === undefined) return { kind: 'unavailable', why: 'no token issuer is configured' };
      const result = await context.verifyToken(bearer.token, bearer.username, context.from);
      const step = fromAuthResult(result, bearer.username);
      if (step.kind !== 'refused') return step;
      // RFC 7628 §3.2.3: the failure is told in a challenge, whatever the client answers ends the exchange.
      exchange.expect(() => step);
      return challenge(failure);
    }
    const exchange = clientFirst(first);
    return exchange;
  },
});

export const oauthBearer = mechanism('OAUTHBEARER', parseOauthBearer, '{"status":"invalid_token"}');
export const xoauth2 = mechanism('XOAUTH2', parseXoauth2, '{"status":"401","schemes":"Bearer"}');
