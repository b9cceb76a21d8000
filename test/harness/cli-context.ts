// A command run in this process: what starting one anew takes is time that some tests have not.
import { Readable, Writable } from 'node:stream';
import { type CliContext, exitCodes } from '../../core/cli/context.ts';
import { systemClock } from '../../core/lib/clock.ts';
import { guardedLogger } from './log-guard.ts';

/** Runs a command of `core/cli` with `--json`; resolves to what it printed where the exit code is `expected`. */
export async function runJson<T>(
  configFile: string,
  command: (context: CliContext) => Promise<number>,
  expected: number = exitCodes.ok,
): Promise<T> {
  let printed = '';
  const stdout = new Writable({
    write(chunk: Buffer, _encoding, done) {
      printed += chunk.toString();
      done();
    },
  });
  const code = await command({
    env: {},
    workingFolder: process.cwd(),
    stdin: Readable.from([]),
    stdout,
    stderr: new Writable({ write: (_chunk, _encoding, done) => done() }),
    clock: systemClock,
    // A plugin may fail in a replay.
    log: guardedLogger({ expected: [/^Plugin failed$/] }),
    configFile,
    program: { command: '', args: [] },
    json: true,
    color: false,
    onSignal: () => undefined,
    onFault: () => undefined,
  });
  if (code !== expected) throw new Error(`Exit code ${code}: ${printed}`);
  return JSON.parse(printed) as T;
}
