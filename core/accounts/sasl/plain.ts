// PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login: obsolete, still what many clients speak).
import type { SaslContext, SaslMechanism, SaslStep } from './mechanism.ts';
import { challenge, clientFirst, decodeUtf8, fromAuthResult, malformed } from './mechanism.ts';

async function logIn(context: SaslContext, username: string, password: string, actAs: string): Promise<SaslStep> {
  const result = await context.directory.authenticate(username, password, context.from);
  if (result.kind !== 'ok') return fromAuthResult(result, username);
  // RFC 4616 §2: acting as somebody else is nothing that accounts here may do.
  const same = actAs === '' || [username.toLowerCase(), result.account.name].includes(actAs.toLowerCase());
  return same ? result : { kind: 'refused', why: `may not act as "${actAs}"`, username };
}

export const plain: SaslMechanism = {
  name: 'PLAIN',
  plaintext: true,
  start: context =>
    clientFirst(response => {
      const parts = decodeUtf8(response)?.split('\0');
      const [actAs, username, password] = parts ?? [];
      if (parts?.length !== 3 || actAs === undefined || !username || password === undefined)
        return malformed('PLAIN needs [identity] NUL name NUL password in UTF-8');
      return logIn(context, username, password, actAs);
    }),
};

export const login: SaslMechanism = {
  name: 'LOGIN',
  plaintext: true,
  start(context) {
    let username: string | undefined;
    let asked = false;
    return {
      async step(response) {
        if (response === undefined && !asked) {
          asked = true;
          return challenge('Username:');
        }
        const text = decodeUtf8(response ?? Buffer.alloc(0));
        if (text === undefined || text.includes('\0')) return malformed('LOGIN needs UTF-8');
        if (username !== undefined) return logIn(context, username, text, '');
        if (text === '') return malformed('LOGIN needs a name');
        username = text;
        return challenge('Password:');
      },
    };
  },
};
