import { command } from '../command.ts';
import { stringOut } from '../wire.ts';

/** RFC 5804 §2.4 */
export const capability = command({
  name: 'CAPABILITY',
  state: 'any',
  args: [],
  run(at) {
    at.writeCapabilities();
    at.ok();
  },
});

/** RFC 5804 §2.2. Capabilities are told again behind the handshake. */
export const starttls = command({
  name: 'STARTTLS',
  state: 'anonymous',
  args: [],
  run(at) {
    if (!at.canStartTls) return at.no(at.lines.secure ? 'TLS is active already' : 'TLS is not available');
    at.ok('Begin TLS negotiation');
    at.startTls();
  },
});

/** RFC 5804 §2.3 */
export const logout = command({
  name: 'LOGOUT',
  state: 'any',
  args: [],
  run(at) {
    at.ok('Bye');
    at.end();
  },
});

/** RFC 5804 §2.13 */
export const noop = command({
  name: 'NOOP',
  state: 'any',
  args: ['bytes'],
  optional: 1,
  run(at, tag?: Buffer) {
    at.ok('Done', tag === undefined ? undefined : `TAG ${stringOut(tag).toString('latin1')}`);
  },
});

/** RFC 5804 §2.14.1 */
export const unauthenticate = command({
  name: 'UNAUTHENTICATE',
  state: 'authenticated',
  args: [],
  run(at) {
    at.logOut();
    at.ok('Logged out');
  },
});
