import { command, nothing } from '../command.ts';
import { ok } from '../response.ts';

/** RFC 3501 §6.4.2: removes \Deleted messages without saying so, and leaves the mailbox. */
export const close = command({
  name: 'CLOSE',
  state: 'selected',
  updates: 'none',
  parse: nothing,
  async run(at) {
    const { view } = at;
    try {
      if (!view.readOnly) await view.mailbox.expunge();
    } finally {
      await at.select(undefined);
    }
    return ok('Close completed');
  },
});

/** RFC 3691: leaves it as it is. */
export const unselect = command({
  name: 'UNSELECT',
  state: 'selected',
  updates: 'none',
  parse: nothing,
  async run(at) {
    await at.select(undefined);
    return ok('Unselect completed');
  },
});
