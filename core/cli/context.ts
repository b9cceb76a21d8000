// What a command is given instead of the process: commands never touch `process`, so tests run them in process.
import type { Writable } from 'node:stream';
import type { Logger } from 'pino';
import type { Clock } from '../lib/clock.ts';

/** Exit codes, after sysexits(3) where one fits. */
export const exitCodes = {
  ok: 0,
  /** The answer is no: not found, check failed. */
  negative: 1,
  usage: 64,
  /** EX_DATAERR: the message is no mail. */
  data: 65,
  /** EX_NOUSER: no such address. */
  noUser: 67,
  /** The gateway is not running or cannot be reached. */
  unavailable: 69,
  internal: 70,
  /** EX_TEMPFAIL: try again later. */
  temporary: 75,
  /** EX_NOPERM */
  permission: 77,
  /** The configuration is not valid. */
  config: 78,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workingFolder: string;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable;
  readonly clock: Clock;
  /** Warnings of the parts that a command uses; goes to standard error. */
  readonly log: Logger;
  /** Path of the configuration file: `--config`, POSTERN_CONFIG, `config/postern.yaml` here, or the one of the package. */
  readonly configFile: string;
  /** How this program is run again, by the supervisor. */
  readonly program: { readonly command: string; readonly args: readonly string[] };
  /** `--json`: for programs. */
  readonly json: boolean;
  readonly color: boolean;
  /** Calls `handler` for each SIGTERM, SIGINT and SIGHUP; only `start` uses it. */
  onSignal(handler: (signal: 'SIGTERM' | 'SIGINT' | 'SIGHUP') => void): void;
  /** Calls `handler` for what is thrown or rejected where nothing catches it, which ends the process otherwise; only `start` uses it. */
  onFault(handler: (kind: 'exception' | 'rejection', reason: unknown) => void): void;
}

/** Prints `value` as JSON or, for people, the text that `human` makes of it. */
export function print(context: CliContext, value: unknown, human: () => string): void {
  const text = context.json
    ? JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? Number(item) : item), 2)
    : human();
  context.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** The command cannot be carried out as given; the message is for the user. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly exitCode: ExitCode;
  constructor(message: string, exitCode: ExitCode = exitCodes.usage) {
    super(message);
    this.exitCode = exitCode;
  }
}
