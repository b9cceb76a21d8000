import { command, nothing } from '../command.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.1.1. */
export const capability = command({
  name: 'CAPABILITY',
  state: 'any',
  parse: nothing,
  run(at) {
    at.out.untagged(`CAPABILITY ${at.capabilities().join(' ')}`);
    return ok('Capability completed');
  },
});
