// Tables of kept mail. What one searches by has a column; the rest is JSON that is read only when a message is shown.
import type { Migration } from '../state/state.ts';

export const keptMailMigrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE kept_mail (
        id TEXT NOT NULL PRIMARY KEY,
        message TEXT NOT NULL,
        reason TEXT NOT NULL,
        plugin TEXT NOT NULL,
        why TEXT NOT NULL,
        received_at BIGINT NOT NULL,
        sender TEXT NOT NULL,
        client TEXT NOT NULL,
        subject TEXT,
        message_id TEXT,
        size BIGINT NOT NULL,
        facts TEXT NOT NULL,
        trace TEXT
      )`,
      'CREATE INDEX kept_mail_time ON kept_mail (received_at, id)',
      'CREATE INDEX kept_mail_reason ON kept_mail (reason, received_at)',
      'CREATE INDEX kept_mail_message ON kept_mail (message)',
      'CREATE INDEX kept_mail_sender ON kept_mail (sender, received_at)',
      `CREATE TABLE kept_recipient (
        id TEXT NOT NULL,
        address TEXT NOT NULL,
        PRIMARY KEY (id, address)
      )`,
      'CREATE INDEX kept_recipient_address ON kept_recipient (address)',
      `CREATE TABLE kept_release (
        id TEXT NOT NULL,
        address TEXT NOT NULL,
        released_at BIGINT NOT NULL,
        queue_id TEXT NOT NULL,
        PRIMARY KEY (id, address)
      )`,
    ],
  },
];
