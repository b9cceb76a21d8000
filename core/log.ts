// The only file that makes loggers (an isolated plugin's thread has one that writes to ours). JSON lines for programs; on a terminal one readable line per event.
import { Writable } from 'node:stream';
import { styleText } from 'node:util';
import pino, { type Logger } from 'pino';
import type { GatewayOptions } from './config/gateway-options.ts';

const levelNames: Readonly<Record<number, string>> = {
  10: 'trace',
  20: 'debug',
  30: 'info',
  40: 'warn',
  50: 'error',
  60: 'fatal',
};
const levelStyles: Readonly<Record<string, Parameters<typeof styleText>[0]>> = {
  warn: 'yellow',
  error: 'red',
  fatal: 'red',
  info: 'green',
};

/** One JSON log line as a person reads it. A line that is no JSON is passed on as it is. */
function prettyLine(line: string, color: boolean): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, msg, pid: _pid, hostname: _hostname, err, ...rest } = entry;
  const name = levelNames[Number(level)] ?? String(level);
  const fields = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const failure = err as { message?: string; stack?: string } | undefined;
  const style = levelStyles[name];
  const label = color && style !== undefined ? styleText(style, name) : name;
  const text = [new Date(Number(time)).toISOString().slice(11, 23), label, String(msg ?? ''), ...fields].join(' ');
  return failure ? `${text}\n  ${failure.stack ?? failure.message ?? ''}` : text;
}

class PrettyStream extends Writable {
  readonly #out: Writable;
  readonly #color: boolean;
  constructor(out: Writable, color: boolean) {
    super({ decodeStrings: false });
    this.#out = out;
    this.#color = color;
  }
  override _write(chunk: string | Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    const lines = chunk.toString().trimEnd().split('\n');
    this.#out.write(`${lines.map(line => prettyLine(line, this.#color)).join('\n')}\n`, () => done());
  }
}

/** Secrets that must not reach a log whatever logs them (invariant I8). */
const redact = ['password', '*.password', 'credentials', '*.credentials'];

/** Lines that wait for room on the disk; later ones are lost. */
const waitingBytes = 1_048_576;

export function createLogger(
  options: GatewayOptions['log'],
  out: Writable & { readonly isTTY?: boolean },
  color: boolean,
): Logger {
  const settings = { level: options.level, base: null, redact };
  // A log that cannot be written (a full disk, a reader that is gone) is no reason to take no mail.
  const unheard = (): void => undefined;
  if (options.file !== undefined) {
    const file = pino.destination({ dest: options.file, mkdir: true, sync: true, maxLength: waitingBytes });
    file.on('error', unheard);
    return pino(settings, file);
  }
  out.on('error', unheard);
  const pretty = options.format === 'pretty' || (options.format === 'auto' && out.isTTY === true);
  return pino(settings, pretty ? new PrettyStream(out, color) : out);
}
