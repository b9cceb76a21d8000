import type { Daemon } from '../lib/processes.ts';

/** A server that takes mail by LMTP for `plain@bench.local`, who has no rules, and `sieve@bench.local`, who has twenty. */
export interface LmtpContestant {
  readonly name: string;
  readonly port: number;
  /** Everything it writes lies below; empty when `prepare` is called. */
  readonly folder: string;
  available(): boolean;
  prepare(): Promise<void>;
  start(): Promise<Daemon>;
  /** Maildir++ of a user. */
  maildir(user: string): string;
}
