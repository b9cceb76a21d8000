// The process behind `postern start`: runs the gateway in a child, with the thread pool that its fsyncs need (libuv reads
// its size before any code of ours runs), passes signals on and replaces a child that crashed. A crash costs the
// sessions of that moment and nothing else: what got a 250 is on disk.
import { spawn } from 'node:child_process';

export interface SupervisorOptions {
  /** Program and arguments of the child. */
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  onSignal(handler: (signal: 'SIGTERM' | 'SIGINT' | 'SIGHUP') => void): void;
  /** A line for the operator. */
  warn(text: string): void;
}

/** Exit codes of the child that mean "do not try again": success, usage, configuration. */
const finalCodes = new Set([0, 64, 78]);
const firstPauseMs = 200;
const longestPauseMs = 30_000;
/** A child that lived so long is taken to have been well. */
const wellAfterMs = 60_000;

/** Resolves to the exit code once the gateway ended for good. */
export function supervise(options: SupervisorOptions): Promise<number> {
  return new Promise(resolve => {
    let child: ReturnType<typeof spawn> | undefined;
    let stopping = false;
    let pauseMs = firstPauseMs;
    let restart: NodeJS.Timeout | undefined;

    options.onSignal(signal => {
      if (signal !== 'SIGHUP') stopping = true;
      if (restart !== undefined && stopping) {
        clearTimeout(restart);
        resolve(0);
      } else child?.kill(signal);
    });

    const run = (): void => {
      restart = undefined;
      const startedAt = Date.now();
      child = spawn(options.command, options.args, { stdio: 'inherit', env: options.env });
      child.once('error', error => options.warn(`Cannot start the gateway: ${error.message}`));
      child.once('close', (code, signal) => {
        if (
          stopping ||
          (code !== null && finalCodes.has(code)) ||
          (code !== null && Date.now() - startedAt < 2000 && pauseMs === firstPauseMs)
        ) {
          resolve(code ?? 1);
          return;
        }
        if (Date.now() - startedAt > wellAfterMs) pauseMs = firstPauseMs;
        options.warn(
          `The gateway ended unexpectedly (${signal ?? `code ${code}`}); starting it again in ${pauseMs} ms`,
        );
        restart = setTimeout(run, pauseMs);
        pauseMs = Math.min(longestPauseMs, pauseMs * 2);
      });
    };
    run();
  });
}
