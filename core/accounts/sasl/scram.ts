// SCRAM-SHA-1 (RFC 5802) and SCRAM-SHA-256 (RFC 7677), without channel binding.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { ScramHash, ScramStart, ScramVerifier } from '../directory.ts';
import { digestName, saslPrep } from '../schemes/scram-verifier.ts';
import type { SaslContext, SaslMechanism, SaslStep } from './mechanism.ts';
import { challenge, clientFirst, decodeUtf8, fromAuthResult, malformed } from './mechanism.ts';

interface ClientFirst {
  /** What `c=` of the final message must repeat. */
  readonly gs2Header: string;
  readonly bare: string;
  readonly actAs: string;
  readonly username: string;
  readonly nonce: string;
}

/** RFC 5802 §5.1: `=2C` and `=3D` are the only escapes. */
function decodeName(text: string): string | undefined {
  if (/=(?!2C|3D)/.test(text) || text.includes('\0')) return undefined;
  return saslPrep(text.replaceAll('=2C', ',').replaceAll('=3D', '='));
}

/** RFC 5802 §7, client-first-message. A string says what is wrong. */
function parseClientFirst(text: string): ClientFirst | string {
  const match = /^((n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]*))?,)((?:m=)?n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s.exec(
    text,
  );
  if (match === null) return 'SCRAM client-first-message is malformed';
  const [, gs2Header = '', binding, actAs = '', bare = '', name = '', nonce = ''] = match;
  if (binding?.startsWith('p=')) return 'channel binding is not supported';
  if (bare.startsWith('m=')) return 'mandatory extensions are not supported';
  const username = decodeName(name);
  const other = decodeName(actAs);
  if (!username || other === undefined) return 'SCRAM name is malformed';
  return { gs2Header, bare, actAs: other, username, nonce };
}

interface ClientFinal {
  readonly withoutProof: string;
  readonly binding: string;
  readonly nonce: string;
  readonly proof: Buffer;
}

function parseClientFinal(text: string): ClientFinal | undefined {
  const match = /^(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,(?!p=)[^,]*)*),p=([A-Za-z0-9+/=]+)$/.exec(text);
  if (match === null) return undefined;
  const [, withoutProof = '', binding = '', nonce = '', proof = ''] = match;
  return {
    withoutProof,
    binding: Buffer.from(binding, 'base64').toString(),
    nonce,
    proof: Buffer.from(proof, 'base64'),
  };
}

/** RFC 5802 §3: H(ClientProof XOR HMAC(StoredKey, AuthMessage)) = StoredKey. */
function proofHolds(hash: ScramHash, verifier: ScramVerifier, authMessage: string, proof: Buffer): boolean {
  const digest = digestName(hash);
  const signature = createHmac(digest, verifier.storedKey).update(authMessage).digest();
  if (proof.length !== signature.length) return false;
  const clientKey = Buffer.from(signature.map((byte, index) => byte ^ (proof[index] ?? 0)));
  return timingSafeEqual(createHash(digest).update(clientKey).digest(), verifier.storedKey);
}

type Started = Extract<ScramStart, { readonly kind: 'verifier' }>;

export const scram = (hash: ScramHash): SaslMechanism => ({
  name: `SCRAM-${hash}`,
  plaintext: false,
  start(context: SaslContext) {
    async function first(response: Buffer): Promise<SaslStep> {
      const text = decodeUtf8(response);
      const client = text === undefined ? 'SCRAM needs UTF-8' : parseClientFirst(text);
      if (typeof client === 'string') return malformed(client);
      const started = await context.directory.startScram?.(client.username, hash, context.from);
      if (started === undefined) return { kind: 'unavailable', why: 'no SCRAM verifiers here' };
      if (started.kind === 'unavailable') return { ...started, username: client.username };
      const nonce = client.nonce + randomBytes(18).toString('base64');
      const { salt, iterations } = started.verifier;
      const serverFirst = `r=${nonce},s=${salt.toString('base64')},i=${iterations}`;
      exchange.expect(final => last(final, client, started, nonce, serverFirst));
      return challenge(serverFirst);
    }

    async function last(
      response: Buffer,
      client: ClientFirst,
      started: Started,
      nonce: string,
      serverFirst: string,
    ): Promise<SaslStep> {
      const final = parseClientFinal(response.toString('latin1'));
      if (final === undefined) return malformed('SCRAM client-final-message is malformed');
      const authMessage = `${client.bare},${serverFirst},${final.withoutProof}`;
      const genuine = final.nonce === nonce && final.binding === client.gs2Header;
      const result = await started.finish(genuine && proofHolds(hash, started.verifier, authMessage, final.proof));
      if (result.kind !== 'ok') return fromAuthResult(result, client.username);
      if (client.actAs !== '' && client.actAs.toLowerCase() !== result.account.name)
        return { kind: 'refused', why: `may not act as "${client.actAs}"`, username: client.username };
      const signature = createHmac(digestName(hash), started.verifier.serverKey).update(authMessage).digest('base64');
      const data = Buffer.from(`v=${signature}`);
      if (context.successData) return { ...result, data };
      // The client answers the server's proof with an empty message.
      exchange.expect(empty => (empty.length === 0 ? result : malformed('SCRAM ends with an empty message')));
      return { kind: 'challenge', data };
    }

    const exchange = clientFirst(first);
    return exchange;
  },
});
