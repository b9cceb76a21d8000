// What was taken from where, so that it is never taken twice: a row per item (a file of the maildrop, a message of an
// account elsewhere), written in the commit that puts the message into the queue.
import type { Migration, State, Statement } from '../state/state.ts';

export const intakeMigrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE intake (
        source TEXT NOT NULL,
        item TEXT NOT NULL,
        taken_at BIGINT NOT NULL,
        outcome TEXT NOT NULL,
        PRIMARY KEY (source, item)
      )`,
    ],
  },
];

/** `taken`: in the queue, or discarded by the chain. `refused`: by the chain, for good. */
export type TakenAs = 'taken' | 'refused';

export interface Taken {
  readonly at: number;
  readonly as: TakenAs;
}

export interface IntakeMemory {
  /** What is known of a source, by item. */
  of(source: string): Promise<ReadonlyMap<string, Taken>>;
  /** To be committed together with the message. */
  note(source: string, item: string, at: number, as: TakenAs): Statement;
  write(statements: readonly Statement[]): Promise<void>;
  /** The source has these items no more. */
  forget(source: string, items: readonly string[]): Promise<void>;
}

export async function openIntakeMemory(state: State): Promise<IntakeMemory> {
  await state.migrate('intake', intakeMigrations);
  return {
    async of(source) {
      const rows = await state.query('SELECT item, taken_at, outcome FROM intake WHERE source = ?', [source]);
      return new Map(
        rows.map(row => [
          String(row['item']),
          { at: Number(row['taken_at']), as: row['outcome'] === 'refused' ? 'refused' : 'taken' },
        ]),
      );
    },
    note: (source, item, at, as) => ({
      sql: 'INSERT INTO intake (source, item, taken_at, outcome) VALUES (?, ?, ?, ?)',
      params: [source, item, at, as],
    }),
    async write(statements) {
      if (statements.length > 0) await state.write(statements);
    },
    async forget(source, items) {
      if (items.length === 0) return;
      await state.write(
        items.map(item => ({ sql: 'DELETE FROM intake WHERE source = ? AND item = ?', params: [source, item] })),
      );
    },
  };
}
