// A message that was decided to be delivered, as the chain hands it to whoever settles it.
import type { Recipient, ReversePath } from './envelope.ts';
import type { Message } from './message.ts';

/** Why something lies in the quarantine, as an administrator sorts it; retention goes by this. */
export const quarantineReasons = ['virus', 'spam', 'attachment', 'forged', 'malformed', 'policy'] as const;
export type QuarantineReason = (typeof quarantineReasons)[number];

/** A message as it stood before a plugin's edits, to be kept in the quarantine while the edited one goes on. */
export interface KeptOriginal {
  readonly message: Message;
  readonly plugin: string;
  readonly reason: QuarantineReason;
  readonly why: string;
}

export interface Deliverable {
  readonly kind: 'deliver' | 'quarantine';
  /** With all edits applied. */
  readonly message: Message;
  readonly sender: ReversePath;
  /** After aliases and other edits; `originals` maps a new recipient to the one that the client named. */
  readonly recipients: readonly Recipient[];
  readonly originals: ReadonlyMap<string, string>;
  /** Why it is quarantined. */
  readonly why?: string;
  readonly plugin?: string;
  readonly reason?: QuarantineReason;
  readonly kept?: KeptOriginal;
  /** Its sender did not send it: no report about it. */
  readonly forged?: boolean;
}
