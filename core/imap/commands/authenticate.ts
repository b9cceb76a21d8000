import { maxSaslBytes, type SaslMechanism } from '../../accounts/sasl/mechanism.ts';
import { type Anonymous, command } from '../command.ts';
import { bad, type Ending, no, Refusal } from '../response.ts';
import { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

/** RFC 3501 §6.2.2 with the initial response of RFC 4959. */
export const authenticate = command({
  name: 'AUTHENTICATE',
  state: 'anonymous',
  parse(lexer) {
    lexer.sp();
    const mechanism = lexer.keyword();
    if (!lexer.trySp()) return { mechanism, initial: undefined };
    // RFC 4959 §3: a single "=" is an empty response.
    return { mechanism, initial: lexer.tryChar('=') ? Buffer.alloc(0) : lexer.base64() };
  },
  run(at, { mechanism, initial }) {
    const chosen = at.mechanisms.find(({ name }) => name === mechanism);
    if (chosen) return exchange(at, chosen, initial);
    if (at.passwordsForbidden && ['PLAIN', 'LOGIN'].includes(mechanism))
      return no('Passwords are taken inside TLS only', 'PRIVACYREQUIRED');
    return no('Mechanism is not supported', 'CANNOT');
  },
});

async function exchange(at: Anonymous, mechanism: SaslMechanism, initial: Buffer | undefined): Promise<Ending> {
  const running = mechanism.start(at.sasl);
  for (let response = initial; ; ) {
    const step = await running.step(response);
    switch (step.kind) {
      case 'challenge':
        response = await ask(at, step.data);
        break;
      case 'malformed':
        return bad('Invalid response');
      case 'ok':
        return at.finishLogin(step, step.account.name, mechanism.name);
      default:
        return at.finishLogin(step, step.username ?? '', mechanism.name);
    }
  }
}

/** Sends a challenge and takes the answer; `*` cancels (RFC 3501 §6.2.2). */
async function ask(at: Anonymous, challenge: Buffer): Promise<Buffer> {
  at.out.write(`+ ${challenge.toString('base64')}\r\n`);
  at.out.flush();
  const line = await at.input.line(Math.ceil(maxSaslBytes / 3) * 4);
  if (line.kind === 'too-long' || line.literal) throw new WireError('Response too long');
  if (line.bytes.toString('latin1') === '*') throw new Refusal(bad('Authentication cancelled'));
  const lexer = new Lexer([{ kind: 'text', bytes: line.bytes }]);
  const response = lexer.base64();
  lexer.end();
  return response;
}
