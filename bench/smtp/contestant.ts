import type { Daemon } from '../lib/processes.ts';

/** A server that takes mail for b@bench.local from a@example.org on a port of 127.0.0.1. */
export interface Contestant {
  readonly name: string;
  readonly port: number;
  /** What its 250 promises. */
  readonly promise: string;
  /** False where what it needs is not installed. */
  available(): boolean;
  /** Writes configuration and folders, once per run of the benchmark. */
  prepare(): void;
  /** Empties queue and mailboxes, before each start. */
  reset(): void;
  /** Resolves once it greets. */
  start(): Promise<Daemon>;
  /** Messages accepted and not yet delivered. */
  backlog(): number;
  /** Messages in the mailbox, where it delivers. */
  delivered?(): number;
}
