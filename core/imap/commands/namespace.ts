import { command, nothing } from '../command.ts';
import { delimiter } from '../mailbox-name.ts';
import { ok } from '../response.ts';

/** RFC 2342: one personal namespace without prefix. */
export const namespace = command({
  name: 'NAMESPACE',
  state: 'authenticated',
  parse: nothing,
  run(at) {
    at.out.untagged(`NAMESPACE (("" "${delimiter}")) NIL NIL`);
    return ok('Namespace completed');
  },
});
