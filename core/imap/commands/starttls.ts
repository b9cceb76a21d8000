import { command, nothing } from '../command.ts';
import { bad, ok } from '../response.ts';

/** RFC 3501 §6.2.1. The handshake begins behind the reply; what the client sent early in plain text is dropped. */
export const starttls = command({
  name: 'STARTTLS',
  state: 'anonymous',
  parse: nothing,
  run(at) {
    if (!at.canStartTls) return bad(at.secure ? 'TLS is active already' : 'TLS is not available');
    at.startTls();
    return ok('Begin TLS negotiation now');
  },
});
