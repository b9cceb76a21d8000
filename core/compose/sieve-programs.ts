// External programs of rules (vnd.dovecot.pipe, filter, execute): from one folder of the administrator's, with a deadline
// and a bound on what is read from them. The message comes on standard input with CRLF line ends.
import { spawn } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import path from 'node:path';
import type { SieveEnvelope } from '../sieve/ports.ts';
import { HostError, type ProgramPort, type ProgramRequest } from '../sieve/ports.ts';

export interface ProgramOptions {
  readonly folder: string;
  readonly timeoutMs: number;
}

const maxOutputBytes = 64 * 1024 * 1024;

async function executable(folder: string, name: string): Promise<string> {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) throw new HostError('permanent', `'${name}' is no program`);
  const file = path.join(folder, name);
  try {
    if (!(await stat(file)).isFile()) throw new Error('It is not a file');
    await access(file, constants.X_OK);
  } catch (error) {
    throw new HostError('permanent', `Program '${name}' cannot be run`, { cause: error });
  }
  return file;
}

/** `envelope` and `user` are told in the environment, as Pigeonhole does; nothing else of ours is. */
export function programPort(options: ProgramOptions, user: string, envelope: SieveEnvelope): ProgramPort {
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    USER: user,
    SENDER: envelope.from,
    RECIPIENT: envelope.to,
    ORIG_RECIPIENT: envelope.originalTo ?? envelope.to,
  };
  return {
    async run(request) {
      const file = await executable(options.folder, request.name);
      return runProgram(file, { ...request, timeoutMs: Math.min(request.timeoutMs, options.timeoutMs) }, env);
    },
  };
}

function runProgram(
  file: string,
  { name, arguments: args, input, timeoutMs }: ProgramRequest,
  env: Readonly<Record<string, string>>,
): ReturnType<ProgramPort['run']> {
  return new Promise((resolve, reject) => {
    // A group of its own, so that what it starts ends with it.
    const child = spawn(file, args, {
      cwd: path.dirname(file),
      env,
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
    });
    const output: Buffer[] = [];
    let bytes = 0;
    const end = (why: string, cause?: unknown): void => {
      clearTimeout(timer);
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended on its own.
      }
      reject(new HostError('permanent', `Program '${name}' ${why}`, { cause }));
    };
    const timer = setTimeout(() => end(`did not end within ${timeoutMs} ms`), timeoutMs);
    child.once('error', error => end('could not be started', error));
    // A program need not read its input.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxOutputBytes) end(`wrote more than ${maxOutputBytes} bytes`);
      else output.push(chunk);
    });
    child.once('close', status => {
      clearTimeout(timer);
      if (status === null) end('was ended by a signal');
      else resolve({ status, output: Buffer.concat(output) });
    });
  });
}
