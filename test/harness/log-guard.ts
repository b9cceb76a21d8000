// A test that makes the gateway warn must say so: a warning or an error that nobody announced fails the process.
import pino, { type Logger } from 'pino';

export interface GuardOptions {
  /** Messages that the test expects at `warn` or above. */
  readonly expected?: readonly RegExp[];
}

/** Throws, outside of any caller, at the first unexpected `warn`, `error` or `fatal` line. */
export function guardedLogger(options: GuardOptions = {}): Logger {
  return pino(
    { level: 'warn', base: null },
    {
      write(line: string) {
        const { msg } = JSON.parse(line) as { msg?: string };
        if (options.expected?.some(pattern => pattern.test(msg ?? ''))) return;
        queueMicrotask(() => {
          throw new Error(`Unexpected log line: ${line.trim()}`);
        });
      },
    },
  );
}
