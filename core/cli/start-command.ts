// postern start: the supervisor, or with --worker the gateway itself.
import path from 'node:path';
import type { Logger } from 'pino';
import { demoLines } from '../compose/first-run.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import type { Gateway } from '../gateway.ts';
import { createLogger } from '../log.ts';
import { supervise } from '../supervisor.ts';
import { type CliContext, type ExitCode, exitCodes } from './context.ts';
import { packageVersion } from './package-version.ts';
import { renderTrace } from './render-trace.ts';
import { formatTable } from './table.ts';

/** Concurrent fsyncs share a journal commit: more threads, fewer commits for each message. */
const threadPoolSize = '16';

/** How long a stop may take beyond the grace of the transactions: what hangs then, or cannot start, is left as by a crash. */
const stopMs = 30_000;

export interface StartOptions {
  /** Run the gateway in this process, without a supervisor. */
  readonly worker?: boolean;
}

export async function start(context: CliContext, options: StartOptions): Promise<number> {
  if (options.worker) return runGateway(context);
  loadConfig(context.configFile, context.workingFolder);
  return supervise({
    command: context.program.command,
    args: [...context.program.args, '--config', context.configFile, 'start', '--worker'],
    env: { UV_THREADPOOL_SIZE: threadPoolSize, ...context.env },
    onSignal: context.onSignal,
    warn: text => context.stderr.write(`${text}\n`),
  });
}

async function runGateway(context: CliContext): Promise<ExitCode> {
  const config = loadConfig(context.configFile, context.workingFolder);
  const live = context.stdout.isTTY === true || config.options.demo;
  const format = config.options.log.format === 'auto' && live ? 'pretty' : config.options.log.format;
  const log = createLogger({ ...config.options.log, format }, context.stdout, context.color);
  // The supervisor is the same program and needs none of it.
  const started = import('../gateway.ts').then(({ startGateway }) =>
    startGateway({
      config,
      log,
      clock: context.clock,
      env: context.env,
      version: packageVersion(),
      ...(live ? { onTrace: trace => context.stdout.write(`${renderTrace(trace, context.color)}\n`) } : {}),
    }),
  );
  // Before it has started: its ports are open a moment earlier.
  const ended = untilEnd(context, config, log, started);
  const gateway = await started;
  if (live) {
    const listeners = gateway.listeners();
    const lines = [
      '',
      formatTable(
        ['LISTENER', 'ROLE', 'ADDRESS', 'TLS'],
        listeners.map(listener => [listener.name, listener.role, `${listener.address}:${listener.port}`, listener.tls]),
      ),
      '',
      ...(gateway.selfSigned
        ? ['The certificate is self-signed (made at the first start): clients will ask whether to trust it.', '']
        : []),
      ...demoLines(
        listeners,
        gateway.demoUsers ?? [],
        `npx postern${path.basename(context.configFile) === 'postern.yaml' ? '' : ` --config ${context.configFile}`}`,
      ),
      '',
      'Each message shows here what every plugin decided about it. Ctrl-C stops.',
    ];
    context.stdout.write(`${lines.join('\n')}\n\n`);
  }
  return ended;
}

/** Resolves when the gateway was told to stop, or something broke, and it has stopped. */
function untilEnd(
  context: CliContext,
  { options }: LoadedConfig,
  log: Logger,
  started: Promise<Gateway>,
): Promise<ExitCode> {
  const ended = new Promise<ExitCode>((resolve, reject) => {
    const stop = (code: ExitCode): void => {
      started.then(gateway => gateway.stop()).then(() => resolve(code), reject);
      context.clock.after(options.shutdownGrace + stopMs, () => resolve(exitCodes.internal));
    };
    context.onSignal(signal => {
      if (signal !== 'SIGHUP') return stop(exitCodes.ok);
      started
        .then(gateway => gateway.reload(() => loadConfig(context.configFile, context.workingFolder)))
        .catch((error: unknown) => log.error({ err: error }, 'Reload failed; the running configuration stays'));
    });
    started.then(
      gateway => gateway.onStopRequest(() => stop(exitCodes.ok)),
      () => undefined,
    );
    let isBroken = false;
    context.onFault((kind, err) => {
      if (kind === 'rejection') {
        log.error(
          { event: 'unhandled-rejection', err },
          'Something failed that nobody waited for; the gateway goes on',
        );
        return;
      }
      // What else is broken by it nobody knows; nothing new begins, and the supervisor starts the gateway anew.
      if (isBroken) return;
      isBroken = true;
      log.fatal(
        { event: 'uncaught-exception', err },
        'Something threw where nothing catches it; the gateway starts anew',
      );
      stop(exitCodes.internal);
    });
  });
  // A start that failed is told by the one that awaits it.
  ended.catch(() => undefined);
  return ended;
}
