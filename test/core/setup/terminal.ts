// `postern setup` and `postern doctor` as a person or a script runs them.
import path from 'node:path';
import { PassThrough } from 'node:stream';
import type { CliContext } from '../../../core/cli/context.ts';
import { type DoctorOptions, doctor } from '../../../core/cli/doctor-command.ts';
import { type SetupOptions, setup } from '../../../core/cli/setup-command.ts';
import type { Finding } from '../../../core/doctor/finding.ts';
import { systemClock } from '../../../core/lib/clock.ts';
import { guardedLogger } from '../../harness/log-guard.ts';

/** Commands in process, on a terminal that types the next of `answers` where a question comes. */
export function terminal(folder: string, answers: readonly string[] = [], tty = true, env: CliContext['env'] = {}) {
  const stdin = Object.assign(new PassThrough(), { isTTY: tty });
  const stdout = new PassThrough();
  const rest = [...answers];
  let text = '';
  stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    // A question ends without a line end; what follows it is the next answer.
    if (/\]?: $/.test(text) && rest.length > 0) {
      const answer = rest.shift() ?? '';
      text += `${answer}\n`;
      stdin.write(`${answer}\n`);
    }
  });
  const context = (json: boolean): CliContext => ({
    env,
    workingFolder: folder,
    stdin,
    stdout,
    stderr: stdout,
    clock: systemClock,
    log: guardedLogger(),
    configFile: path.join(folder, 'postern.yaml'),
    program: { command: '', args: [] },
    json,
    color: false,
    onSignal: () => undefined,
    onFault: () => undefined,
  });
  return {
    output: () => text,
    setup: (options: SetupOptions) =>
      setup(context(false), options, { optsWithGlobals: () => ({ config: [path.join(folder, 'postern.yaml')] }) }),
    async doctor(options: Partial<DoctorOptions>) {
      text = '';
      const code = await doctor(context(true), { ntp: '127.0.0.1:9', ...options });
      return { code, found: JSON.parse(text) as readonly Finding[] };
    },
  };
}
