// The one record of what happened to a message and why. The log, `postern trace` and the console all read this.

export interface TraceStep {
  /** ms since the transaction, the session, or for `deliver` the delivery began. */
  readonly atMs: number;
  readonly plugin: string;
  readonly hook: string;
  /** `continue`, `accept`, `reject` …; `error` when the entry's `onError` decided. */
  readonly verdict: string;
  /** For the operator, never for the client. */
  readonly why?: string;
  /** Values that the decision rests on: list names, scores, codes. */
  readonly evidence?: Readonly<Record<string, unknown>>;
  /** The entry runs in `mode: observe`: recorded, but it decided nothing. */
  readonly observed?: true;
  /** How long the hook took. */
  readonly ms: number;
}

export interface TraceRecipient {
  readonly address: string;
  /** What became of it: `delivered`, `queued`, `deferred`, `rejected`, `quarantined`, `discarded`, `expanded`, `relayed`, `bounced`. */
  readonly outcome: string;
  readonly detail?: string;
  /** The `deliver` hooks that were asked for this recipient. */
  readonly steps?: readonly TraceStep[];
}

export interface TraceRecord {
  /** Queue id, as in the 250 reply. */
  readonly id: string;
  readonly sessionId: string;
  /** ms since the epoch. */
  readonly receivedAt: number;
  readonly listener: string;
  readonly client: {
    readonly address: string;
    readonly port: number;
    readonly helo: string;
    readonly tls?: string;
    readonly identity?: string;
  };
  readonly sender: string;
  readonly size: number;
  readonly messageId?: string;
  readonly subject?: string;
  readonly steps: readonly TraceStep[];
  readonly recipients: readonly TraceRecipient[];
  /** Final reply as the client heard it. */
  readonly reply: string;
  /** A `MessageEnd`. */
  readonly outcome: string;
  readonly ms: number;
}

/** Every hook that ran: for the message, then those that delivered it. */
export const allSteps = ({ steps, recipients }: Pick<TraceRecord, 'steps' | 'recipients'>): readonly TraceStep[] => [
  ...steps,
  ...recipients.flatMap(recipient => recipient.steps ?? []),
];

/** What became of a recipient after the record was written: a delivery from the queue, a bounce, a release. */
export interface TraceEvent extends TraceRecipient {
  /** ms since the epoch. */
  readonly at: number;
}

/** What became of the message as a whole. */
export type MessageEnd = 'accepted' | 'rejected' | 'deferred' | 'quarantined' | 'discarded' | 'aborted';

/** How a transaction ended, for its record. */
export interface TraceEnd {
  readonly outcome: MessageEnd;
  /** As the client heard it, or '' where it heard none. */
  readonly reply: string;
  readonly recipients?: readonly TraceRecipient[];
}

/** Takes finished records; never throws and never blocks the caller. */
export interface TraceSink {
  record(trace: TraceRecord): void;
}

/** A longer one loses the evidence of its steps, which comes from plugins and has no bound of its own, and those of delivery. */
const maxJson = 256 * 1024;

/** JSON of `whole`, or of what `spare` leaves of it where that is too long or holds what JSON cannot (a cycle, a bigint). */
function boundedJson(whole: unknown, spare: () => unknown): string {
  try {
    const json = JSON.stringify(whole);
    if (json.length <= maxJson) return json;
  } catch {
    // Evidence that JSON cannot hold.
  }
  return JSON.stringify(spare());
}

const withoutEvidence = (steps: readonly TraceStep[]) => steps.map(({ evidence: _, ...step }) => step);

/** A record as it is stored. */
export const traceJson = (record: TraceRecord): string =>
  boundedJson(record, () => ({
    ...record,
    steps: withoutEvidence(record.steps),
    recipients: record.recipients.map(({ steps: _, ...recipient }) => recipient),
  }));

/** Steps of an event as they are stored. */
export const stepsJson = (steps: readonly TraceStep[]): string => boundedJson(steps, () => withoutEvidence(steps));
