// Tables of the queue. A recipient's row is what the runner looks for; a message's row is read only when it is tried.
// `queue_destination.ready_at` is never later than the earliest `due_at` of its recipients (unless the destination is
// held or backs off), so the runner finds work by one index however long the queue is.
import type { Migration } from '../state/state.ts';

export const queueMigrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE queue_message (
        id TEXT NOT NULL PRIMARY KEY,
        received_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        sender TEXT,
        envelope TEXT NOT NULL,
        client TEXT,
        reports INTEGER NOT NULL,
        size BIGINT NOT NULL,
        pieces TEXT NOT NULL,
        body BLOB NOT NULL
      )`,
      `CREATE TABLE queue_recipient (
        message TEXT NOT NULL,
        idx INTEGER NOT NULL,
        address TEXT NOT NULL,
        recipient TEXT NOT NULL,
        original TEXT,
        destination TEXT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        due_at BIGINT,
        event_at BIGINT,
        warned INTEGER NOT NULL,
        lease TEXT,
        notes TEXT NOT NULL,
        PRIMARY KEY (message, idx)
      )`,
      'CREATE INDEX queue_recipient_due ON queue_recipient (destination, due_at) WHERE due_at IS NOT NULL',
      'CREATE INDEX queue_recipient_event ON queue_recipient (event_at) WHERE event_at IS NOT NULL',
      'CREATE INDEX queue_recipient_lease ON queue_recipient (lease) WHERE lease IS NOT NULL',
      `CREATE TABLE queue_destination (
        name TEXT NOT NULL PRIMARY KEY,
        ready_at BIGINT,
        held INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        blocked_until BIGINT NOT NULL,
        why TEXT
      )`,
      'CREATE INDEX queue_destination_ready ON queue_destination (ready_at) WHERE ready_at IS NOT NULL',
    ],
  },
];
