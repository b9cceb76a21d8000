// postern start: the supervisor, or with --worker the gateway itself.
import path from 'node:path';
import { demoLines } from '../compose/first-run.ts';
import { loadConfig } from '../config/load.ts';
import { createLogger } from '../log.ts';
import { supervise } from '../supervisor.ts';
import { type CliContext, type ExitCode, exitCodes } from './context.ts';
import { packageVersion } from './package-version.ts';
import { renderTrace } from './render-trace.ts';
import { formatTable } from './table.ts';

/** Concurrent fsyncs share a journal commit: more threads, fewer commits for each message. */
const threadPoolSize = '16';

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
  // Not before: the supervisor is the same program and needs none of it.
  const { startGateway } = await import('../gateway.ts');
  const gateway = await startGateway({
    config,
    log,
    clock: context.clock,
    env: context.env,
    version: packageVersion(),
    ...(live ? { onTrace: trace => context.stdout.write(`${renderTrace(trace, context.color)}\n`) } : {}),
  });
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
  let stopping: Promise<void> | undefined;
  return new Promise((resolve, reject) => {
    context.onSignal(signal => {
      if (signal === 'SIGHUP') {
        gateway
          .reload(() => loadConfig(context.configFile, context.workingFolder))
          .catch((error: unknown) => log.error({ err: error }, 'Reload failed; the running configuration stays'));
        return;
      }
      stopping ??= gateway.stop();
      stopping.then(() => resolve(exitCodes.ok), reject);
    });
    gateway.onStopRequest(() => {
      stopping ??= gateway.stop();
      stopping.then(() => resolve(exitCodes.ok), reject);
    });
  });
}
