// Rows of the queue's tables ⇄ values. The only place that casts what the database gives.
import type { Recipient, ReversePath } from '../mail/envelope.ts';
import type { Row, Statement } from '../state/state.ts';
import type { BodyStore, StoredBody } from './body.ts';
import type { QueuedMessage, QueuedRecipient, RecipientNotes } from './entry.ts';
import type { ClientFacts, DeliveryJob } from './transport.ts';

export const messageColumns = 'id, received_at, expires_at, sender, envelope, client, reports, size, pieces, body';
export const recipientColumns =
  'message, idx, recipient, original, destination, state, attempts, due_at, event_at, warned, notes';

const parse = <T>(value: unknown): T => JSON.parse(value as string) as T;
const optionalNumber = (value: unknown): number | undefined => (value === null ? undefined : Number(value));

export function toMessage(row: Row, bodies: BodyStore): QueuedMessage {
  const client = row['client'] === null ? undefined : parse<ClientFacts>(row['client']);
  return {
    id: row['id'] as string,
    receivedAt: Number(row['received_at']),
    expiresAt: Number(row['expires_at']),
    sender: row['sender'] === null ? null : parse<ReversePath>(row['sender']),
    envelope: parse<DeliveryJob['envelope']>(row['envelope']),
    reports: row['reports'] !== 0,
    form: bodies.form(row['pieces'] as string, row['body'] as Uint8Array),
    ...(client === undefined ? {} : { client }),
  };
}

export function toRecipient(row: Row): QueuedRecipient {
  const dueAt = optionalNumber(row['due_at']);
  const eventAt = optionalNumber(row['event_at']);
  return {
    index: Number(row['idx']),
    recipient: parse<Recipient>(row['recipient']),
    ...(row['original'] === null ? {} : { original: row['original'] as string }),
    destination: row['destination'] as string,
    state: row['state'] as QueuedRecipient['state'],
    attempts: Number(row['attempts']),
    ...(dueAt === undefined ? {} : { dueAt }),
    ...(eventAt === undefined ? {} : { eventAt }),
    warned: row['warned'] !== 0,
    notes: parse<RecipientNotes>(row['notes']),
  };
}

export const insertMessage = (message: QueuedMessage, body: StoredBody): Statement => ({
  sql: `INSERT INTO queue_message (${messageColumns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  params: [
    message.id,
    message.receivedAt,
    message.expiresAt,
    message.sender === null ? null : JSON.stringify(message.sender),
    JSON.stringify(message.envelope),
    message.client === undefined ? null : JSON.stringify(message.client),
    message.reports ? 1 : 0,
    message.form.size,
    body.pieces,
    body.blob,
  ],
});

/** `destination` to `notes`, in the order of `recipientColumns`. */
const progress = (entry: QueuedRecipient) => [
  entry.destination,
  entry.state,
  entry.attempts,
  entry.dueAt ?? null,
  entry.eventAt ?? null,
  entry.warned ? 1 : 0,
  JSON.stringify(entry.notes),
];

export const insertRecipient = (id: string, entry: QueuedRecipient, lease: string | undefined): Statement => ({
  sql: `INSERT INTO queue_recipient (${recipientColumns}, address, lease) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  params: [
    id,
    entry.index,
    JSON.stringify(entry.recipient),
    entry.original ?? null,
    ...progress(entry),
    entry.recipient.address.text,
    lease ?? null,
  ],
});

export const updateRecipient = (id: string, before: QueuedRecipient, entry: QueuedRecipient): Statement => ({
  sql: `UPDATE queue_recipient SET destination = ?, state = ?, attempts = ?, due_at = ?, event_at = ?, warned = ?,
    notes = ?, lease = NULL WHERE message = ? AND idx = ? AND state = ? AND destination = ?`,
  params: [...progress(entry), id, entry.index, before.state, before.destination],
});

/** Lets the runner find a destination at `readyAt` or earlier; later only while it is held or backs off. */
export const wakeDestination = (name: string, readyAt: number): Statement => ({
  sql: `INSERT INTO queue_destination (name, ready_at, held, failures, blocked_until) VALUES (?, ?, 0, 0, 0)
    ON CONFLICT (name) DO UPDATE SET ready_at = CASE
      WHEN queue_destination.blocked_until > excluded.ready_at THEN queue_destination.blocked_until
      ELSE excluded.ready_at END
    WHERE queue_destination.held = 0
      AND (queue_destination.ready_at IS NULL OR queue_destination.ready_at > excluded.ready_at)`,
  params: [name, readyAt],
});
