import type { Daemon } from '../lib/processes.ts';

/** A server that takes mail for b@bench.local from a@example.org on a port of 127.0.0.1. */
export interface Contestant {
  readonly name: string;
  readonly port: number;
  /** What its 250 promises. */
  readonly promise: string;
  /** False where what it needs is not installed. */
  available(): boolean;
  /** Everything it writes lies below; empty when `prepare` is called. */
  readonly folder: string;
  /** Writes configuration and folders, before each start. */
  prepare(): void;
  /** Resolves once it greets. */
  start(): Promise<Daemon>;
  /** Messages accepted and not yet delivered. */
  backlog(): number;
  /** Messages in the mailbox, where it delivers to one. */
  delivered?(): number;
}
