// Gathers what the rules of several recipients of one message store, so that a form is written once and linked, as it is
// without rules. Storing waits until every run that takes part either stores too or has ended.
import type { Rope } from '../mail/rope.ts';
import type { DeliveryResult, DeliveryTarget, MailStore } from '../mailstore/mailbox.ts';

interface Waiting {
  readonly form: Rope;
  readonly target: DeliveryTarget;
  readonly resolve: (result: DeliveryResult) => void;
}

export interface StoreBatch {
  /** A run takes part from now on; it stores one form at a time. Call the returned function when it ended. */
  enter(): () => void;
  store(form: Rope, target: DeliveryTarget): Promise<DeliveryResult>;
}

/** The same form twice into the same mailbox of a user (`bob` and `bob+list`) is one copy, and both are told. */
const placeOf = ({ user, mailbox, flags, keywords }: DeliveryTarget): string =>
  JSON.stringify([user, mailbox ?? 'INBOX', flags ?? 0, keywords ?? []]);

async function storeForm(
  store: Pick<MailStore, 'deliver'>,
  form: Rope,
  waiting: readonly Waiting[],
  finish: (form: Rope) => Rope,
): Promise<void> {
  const places = new Map(waiting.map(each => [placeOf(each.target), each.target]));
  const results = await store.deliver(finish(form), [...places.values()]).catch((error: unknown) => {
    const why = error instanceof Error ? error.message : String(error);
    return [...places].map((): DeliveryResult => ({ kind: 'tempfail', full: false, why }));
  });
  const byPlace = new Map([...places.keys()].map((place, index) => [place, results[index]]));
  for (const each of waiting)
    each.resolve(
      byPlace.get(placeOf(each.target)) ?? { kind: 'tempfail', full: false, why: 'The store gave no result' },
    );
}

/** `finish` makes of a form what is stored, such as Return-Path in front. */
export function createStoreBatch(store: Pick<MailStore, 'deliver'>, finish: (form: Rope) => Rope): StoreBatch {
  let active = 0;
  let waiting: Waiting[] = [];

  function flush(): void {
    if (waiting.length === 0 || waiting.length < active) return;
    const all = waiting;
    waiting = [];
    for (const form of new Set(all.map(each => each.form)))
      void storeForm(
        store,
        form,
        all.filter(each => each.form === form),
        finish,
      );
  }

  return {
    enter() {
      active++;
      return () => {
        active--;
        flush();
      };
    },
    store: (form, target) =>
      new Promise(resolve => {
        waiting.push({ form, target, resolve });
        flush();
      }),
  };
}
