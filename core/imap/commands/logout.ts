import { command, nothing } from '../command.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.1.3. */
export const logout = command({
  name: 'LOGOUT',
  state: 'any',
  updates: 'none',
  parse: nothing,
  run(at) {
    at.out.untagged('BYE Logging out');
    at.logout();
    return ok('Logout completed');
  },
});
