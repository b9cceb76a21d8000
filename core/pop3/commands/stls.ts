import type { Command } from '../command.ts';

/** RFC 2595 §4. What the client sent behind the command in plain text is dropped. */
export const stls: Command = {
  name: 'STLS',
  states: ['authorization'],
  run(at, args) {
    if (args !== '') return at.err('STLS takes no argument');
    if (!at.canStartTls) return at.err(at.lines.secure ? 'TLS is active already' : 'TLS is not available');
    // RFC 6856 §2.1
    if (at.utf8) return at.err('STLS comes before UTF8');
    at.pendingUser = undefined;
    at.ok('Begin TLS negotiation');
    at.startTls();
  },
};
