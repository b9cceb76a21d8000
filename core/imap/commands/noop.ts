import { command, nothing } from '../command.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.1.2: how a client without IDLE asks what is new. */
export const noop = command({
  name: 'NOOP',
  state: 'any',
  sync: 'disk',
  parse: nothing,
  run: () => ok('NOOP completed'),
});

/** RFC 3501 §6.4.1: everything is on disk already. */
export const check = command({
  name: 'CHECK',
  state: 'selected',
  sync: 'disk',
  parse: nothing,
  run: () => ok('Check completed'),
});
