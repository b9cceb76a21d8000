import type { Command, SessionView } from '../command.ts';

function isRefused(at: SessionView): boolean {
  if (at.plaintextAllowed) return false;
  // RFC 2595 §2.2, RFC 3206 §4: the password would be seen; nothing was looked at.
  at.err('Passwords are taken only inside TLS', 'AUTH');
  return true;
}

/** RFC 1939 §7. The answer does not tell whether the name is known. */
export const user: Command = {
  name: 'USER',
  states: ['authorization'],
  run(at, args) {
    if (isRefused(at)) return;
    if (args === '' || args.length > 320) return at.err('USER needs a name');
    at.pendingUser = args;
    at.ok('Send the password');
  },
};

/** RFC 1939 §7: everything behind the space is the password. */
export const pass: Command = {
  name: 'PASS',
  states: ['authorization'],
  async run(at, args) {
    if (isRefused(at)) return;
    const name = at.pendingUser;
    at.pendingUser = undefined;
    if (name === undefined) return at.err('Send USER first');
    const result = await at.service.directory.authenticate(name, args, at.from);
    if (result.kind === 'ok') return at.logIn(result.account);
    at.refuseLogin(result.kind === 'refused' ? 'AUTH' : 'SYS/TEMP', name, result.why);
  },
};
