// What commands are given instead of the process, and what they print.
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import type { CliContext } from '../../core/cli/context.ts';
import { systemClock } from '../../core/lib/clock.ts';

export interface TestCommandLine {
  readonly context: CliContext;
  /** All that was printed since the last call. */
  printed(): string;
}

/** With `postern.yaml` of the folder as configuration. */
export function commandLine(folder: string, json = false): TestCommandLine {
  const stdout = new PassThrough();
  return {
    context: {
      env: {},
      workingFolder: folder,
      stdin: new PassThrough(),
      stdout,
      stderr: new PassThrough(),
      clock: systemClock,
      log: pino({ level: 'silent' }),
      configFile: path.join(folder, 'postern.yaml'),
      program: { command: process.execPath, args: [] },
      json,
      color: false,
      onSignal: () => undefined,
      onFault: () => undefined,
    },
    printed: () => String(stdout.read() ?? ''),
  };
}
