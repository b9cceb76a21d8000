// Started by `sqlite.test.ts` and killed by it: writes rows as fast as it can and prints the number of each resolved one.
import { writeSync } from 'node:fs';
import { openSqliteState } from '../../../core/state/sqlite.ts';

const [file, first] = process.argv.slice(2);
const state = await openSqliteState(file ?? '');
await state.migrate('crash', [
  {
    id: 1,
    statements: ['CREATE TABLE rows (n INTEGER PRIMARY KEY, half TEXT)', 'CREATE TABLE others (n INTEGER PRIMARY KEY)'],
  },
]);
let next = Number(first);
const lane = async (): Promise<never> => {
  for (;;) {
    const n = next++;
    await state.write([
      { sql: 'INSERT INTO rows VALUES (?, ?)', params: [n, 'x'.repeat(n % 3000)] },
      { sql: 'INSERT INTO others VALUES (?)', params: [n] },
    ]);
    writeSync(1, `${n}\n`);
  }
};
await Promise.all(Array.from({ length: 20 }, lane));
