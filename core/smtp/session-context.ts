// What every session of one listener shares.

import type { Logger } from 'pino';
import type { CidrSet } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import type { TraceSink } from '../mail/trace.ts';
import type { Chain } from '../pipeline/chain.ts';
import type { Done } from './input.ts';
import type { SmtpLimits, SmtpListenerOptions } from './listener-options.ts';
import type { FlushQueue, Ids, Recorder, ReverseName, SaslParts, Settle } from './ports.ts';
import type { SpoolMemory } from './spool-memory.ts';

export interface SessionContext {
  readonly listener: Required<Omit<SmtpListenerOptions, 'limits' | 'target' | 'backlog'>>;
  readonly limits: SmtpLimits;
  readonly hostname: string;
  /** Folder for messages that are too large for memory. */
  readonly spoolDir: string;
  /** What messages between the free allowance and `spoolAbove` may hold together. */
  readonly spoolMemory: SpoolMemory;
  /** A certificate is there and the role of TLS on this listener is to be offered by STARTTLS. */
  readonly startTlsOffered: boolean;
  readonly xclientFrom: CidrSet;
  readonly chain: () => Chain;
  readonly settle: Settle;
  readonly trace: TraceSink;
  readonly log: Logger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly reverseName?: ReverseName;
  readonly flushQueue?: FlushQueue;
  readonly recorder?: Recorder;
  readonly sasl?: SaslParts;
}

/** The connection as a session sees it; `connection.ts` implements it over the library. */
export interface Client {
  /** Whole lines with CRLF. A promise when the client does not keep up with reading. */
  write(text: string): Done;
  /** No more input; the socket closes once what was written is out. `done`: the client said QUIT and sends nothing more. */
  hangUp(done: boolean): void;
  /** After the 220 went out: plain-text input that waits is dropped (RFC 3207 §5); resolves with the facts of TLS. */
  startTls(): void;
}
