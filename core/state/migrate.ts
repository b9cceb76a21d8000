// Brings one component's tables up to date. Each step runs in its own transaction together with the note that it ran,
// so a crash leaves a step done or not begun. Before the first step over existing data the whole database is copied
// beside itself; the copy stays until the administrator removes it. Two processes may try at the same time.
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Database } from './sqlite-driver.ts';
import { type Migration, StateError } from './state.ts';

const bookkeeping =
  'CREATE TABLE IF NOT EXISTS schema_versions (component TEXT PRIMARY KEY, version INTEGER NOT NULL, applied_at INTEGER NOT NULL)';

function checkOrder(component: string, migrations: readonly Migration[]): void {
  let last = 0;
  for (const { id } of migrations) {
    if (id <= last) throw new StateError('failed', `Migrations of "${component}" are out of order at ${id}`);
    last = id;
  }
}

function currentVersion(database: Database, component: string): number {
  const row = database.prepare('SELECT version FROM schema_versions WHERE component = ?').get(component);
  return Number(row?.['version'] ?? 0);
}

function syncPath(target: string): void {
  const handle = openSync(target, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

/** Name of the copy that is made before step `id` of a component. */
const backupName = (file: string, component: string, id: number): string => `${file}.before-${component}-${id}`;

function backUp(database: Database, file: string, target: string): void {
  const partial = `${target}.partial`;
  rmSync(partial, { force: true });
  database.prepare('VACUUM INTO ?').run(partial);
  syncPath(partial);
  renameSync(partial, target);
  syncPath(path.dirname(file));
}

function runStep(database: Database, component: string, migration: Migration): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    if (currentVersion(database, component) < migration.id) {
      for (const sql of migration.statements) database.exec(sql);
      database
        .prepare(
          'INSERT INTO schema_versions (component, version, applied_at) VALUES (?, ?, ?) ON CONFLICT (component) DO UPDATE SET version = excluded.version, applied_at = excluded.applied_at',
        )
        .run(component, migration.id, Date.now());
    }
    database.exec('COMMIT');
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

export function migrateDatabase(
  database: Database,
  file: string,
  component: string,
  migrations: readonly Migration[],
): void {
  checkOrder(component, migrations);
  database.exec(bookkeeping);
  const from = currentVersion(database, component);
  const newest = migrations.at(-1)?.id ?? 0;
  if (from > newest)
    throw new StateError(
      'newer',
      `The tables of "${component}" in "${file}" have version ${from}, this release knows ${newest}: use the release that wrote them, or a copy from before its first start`,
    );
  const pending = migrations.filter(({ id }) => id > from);
  const [first] = pending;
  if (first === undefined) return;
  if (from > 0 && file !== ':memory:') backUp(database, file, backupName(file, component, first.id));
  for (const migration of pending) runStep(database, component, migration);
}
