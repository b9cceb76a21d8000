// The client's side of SCRAM (RFC 5802, RFC 7677), written from its text and not from our server.
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';

export interface ScramClientOptions {
  readonly name: string;
  readonly password: string;
  readonly hash?: 'SHA-1' | 'SHA-256';
  /** gs2-header; default `n,,`. */
  readonly header?: string;
}

export interface ScramClient {
  readonly first: string;
  /** Answer to the server-first-message, and what the server must then prove. */
  final(serverFirst: string): { readonly message: string; readonly serverFinal: string };
}

export function scramClient({ name, password, hash = 'SHA-256', header = 'n,,' }: ScramClientOptions): ScramClient {
  const digest = hash === 'SHA-1' ? 'sha1' : 'sha256';
  const bare = `n=${name.replaceAll('=', '=3D').replaceAll(',', '=2C')},r=rOprNGfwEbeRWgbNEkqO`;
  return {
    first: header + bare,
    final(serverFirst) {
      const [, nonce = '', salt = '', iterations = ''] = /^r=([^,]+),s=([^,]+),i=(\d+)$/.exec(serverFirst) ?? [];
      const salted = pbkdf2Sync(
        password.normalize('NFKC'),
        Buffer.from(salt, 'base64'),
        Number(iterations),
        hash === 'SHA-1' ? 20 : 32,
        digest,
      );
      const clientKey = createHmac(digest, salted).update('Client Key').digest();
      const serverKey = createHmac(digest, salted).update('Server Key').digest();
      const withoutProof = `c=${Buffer.from(header).toString('base64')},r=${nonce}`;
      const message = `${bare},${serverFirst},${withoutProof}`;
      const signature = createHmac(digest, createHash(digest).update(clientKey).digest()).update(message).digest();
      const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0))).toString('base64');
      return {
        message: `${withoutProof},p=${proof}`,
        serverFinal: `v=${createHmac(digest, serverKey).update(message).digest('base64')}`,
      };
    },
  };
}
