import { command } from '../command.ts';
import { no } from '../response.ts';

/** RFC 3501 §6.2.3. */
export const login = command({
  name: 'LOGIN',
  state: 'anonymous',
  parse(lexer) {
    lexer.sp();
    const name = lexer.astring();
    lexer.sp();
    return { name: name.toString('utf8'), password: lexer.astring().toString('utf8') };
  },
  async run(at, { name, password }) {
    // RFC 3501 §11.2 (3)(b): refused even with the right password.
    if (at.passwordsForbidden) return no('Passwords are taken inside TLS only', 'PRIVACYREQUIRED');
    return at.finishLogin(await at.service.directory.authenticate(name, password, at.sasl.from), name, 'LOGIN');
  },
});
