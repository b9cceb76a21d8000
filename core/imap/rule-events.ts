// IMAP events for the users' rules (RFC 6785 §2.2): told when the command has done its work and before it is answered, so
// that the client hears of what the scripts did with the answer.
import type { Mailbox, MessageRecord, Uid } from '../mailstore/mailbox.ts';
import type { Authenticated, Selected } from './command.ts';
import { flagNames } from './flags.ts';
import type { EventCause, RuleUser } from './ports.ts';

const userOf = (at: Authenticated): RuleUser => ({ account: at.account, mail: at.mail });

/** Messages that came into `mailbox`. */
export async function tellArrived(
  at: Authenticated,
  cause: Exclude<EventCause, 'FLAG'>,
  mailbox: Mailbox,
  uids: readonly Uid[],
  from?: string,
): Promise<void> {
  const rules = at.service.rules?.();
  const user = userOf(at);
  if (!rules || uids.length === 0 || !(await rules.listens(user, cause, mailbox, from))) return;
  const messages = uids.map(uid => ({ uid }));
  await rules.event({ ...user, cause, mailbox, messages, ...(from === undefined ? {} : { from }) });
}

/** Around a change of flags in the selected mailbox. Resolves to a function that tells of it. */
export async function watchFlags(at: Selected, uids: readonly Uid[]): Promise<() => Promise<void>> {
  const { view } = at;
  const rules = at.service.rules?.();
  const user = userOf(at);
  if (!rules || uids.length === 0 || !(await rules.listens(user, 'FLAG', view.mailbox))) return async () => undefined;
  const before = new Map(uids.map(uid => [uid, view.current(uid)]));
  return async () => {
    const messages = uids.flatMap(uid => {
      const changedFlags = difference(before.get(uid), view.current(uid));
      return changedFlags.length === 0 ? [] : [{ uid, changedFlags }];
    });
    if (messages.length > 0) await rules.event({ ...user, cause: 'FLAG', mailbox: view.mailbox, messages });
  };
}

/** Names of flags that one has and the other has not. */
function difference(before: MessageRecord | undefined, after: MessageRecord | undefined): readonly string[] {
  if (!before || !after) return [];
  const old = new Map(flagNames(before).map(name => [name.toLowerCase(), name]));
  const now = new Map(flagNames(after).map(name => [name.toLowerCase(), name]));
  return [
    ...[...now].filter(([key]) => !old.has(key)).map(([, name]) => name),
    ...[...old].filter(([key]) => !now.has(key)).map(([, name]) => name),
  ];
}
