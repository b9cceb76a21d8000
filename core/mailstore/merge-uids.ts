// Who has which UID, decided from `dovecot-uidlist`, from what the index knew, and from the files that are there.
// Rules: a UID in the list holds; a UID once told to clients never comes to mean another message; a message that turns
// up under a UID below UIDNEXT gets a new one (a session could not show it in the middle, RFC 3501 §2.3.1.1).
import { inOrderOfDelivery } from './file-name.ts';
import type { UidEntry, UidList } from './uid-list.ts';

export interface MergeInput {
  /** What the file says now; undefined where it is missing or no UID list. */
  readonly list: UidList | undefined;
  /** UIDs of the index for files that are still there, by base name. */
  readonly known: ReadonlyMap<string, number>;
  /** Base names of files that the index does not know. */
  readonly newcomers: readonly string[];
  readonly uidNext: number;
}

export interface MergeResult {
  /** UID of every newcomer, and of every known file whose UID had to change. */
  readonly assigned: ReadonlyMap<string, number>;
  /** Lines to append, ascending. */
  readonly append: readonly UidEntry[];
  /** The whole list where appending does not do. */
  readonly rewrite: readonly UidEntry[] | undefined;
  readonly uidNext: number;
  readonly staleLines: number;
}

/** Stale lines are tolerated up to this number or the number of live ones, whichever is more. */
const tolerated = 500;

export function mergeUids({ list, known, newcomers, uidNext: knownNext }: MergeInput): MergeResult {
  const live = new Map<string, UidEntry>();
  const assigned = new Map<string, number>();
  const fresh = new Set(newcomers);
  let next = Math.max(knownNext, list?.uidNext ?? 1);
  let rewrite = !list?.appendable;
  for (const entry of list?.entries ?? []) {
    const { base, uid } = entry;
    const isKnown = known.has(base);
    if (!isKnown && !fresh.has(base)) continue;
    if (known.get(base) === uid) live.set(base, entry);
    else if (uid >= knownNext) {
      live.set(base, entry);
      assigned.set(base, uid);
    } else rewrite = true;
  }
  const usedUids = new Set([...live.values()].map(entry => entry.uid));
  const homeless: string[] = [];
  for (const [base, uid] of known) {
    if (live.has(base)) continue;
    rewrite = true;
    if (usedUids.has(uid)) homeless.push(base);
    else live.set(base, { uid, fields: '', base });
  }
  for (const base of newcomers) if (!live.has(base)) homeless.push(base);
  const append: UidEntry[] = [];
  for (const base of inOrderOfDelivery(homeless)) {
    const entry = { uid: next++, fields: '', base };
    append.push(entry);
    assigned.set(base, entry.uid);
    live.set(base, entry);
  }
  const staleLines = (list?.entries.length ?? 0) + append.length - live.size;
  if (staleLines > Math.max(tolerated, live.size)) rewrite = true;
  return {
    assigned,
    append,
    rewrite: rewrite ? [...live.values()].sort((a, b) => a.uid - b.uid) : undefined,
    uidNext: next,
    staleLines: rewrite ? 0 : staleLines,
  };
}
