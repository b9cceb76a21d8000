// Options that every plugin in front of an engine has: where the engine listens, how long it may take.
import { duration, z } from '../config/schema.ts';
import type { Clock } from '../lib/clock.ts';
import { type Endpoint, formatEndpoint, parseEndpoint } from '../lib/endpoint.ts';
import { createFailover, type Failover } from '../lib/failover.ts';
import { longestSocketPath } from '../lib/socket-path.ts';
import type { Host } from './contract.ts';

const endpoint = (defaultPort?: number) =>
  z.string().transform((text, ctx): Endpoint => {
    const parsed = parseEndpoint(text, defaultPort);
    if (parsed) return parsed;
    ctx.addIssue({
      code: 'custom',
      message: `Expected the path of a socket (at most ${longestSocketPath} bytes) or 'host:port', such as '/run/x.sock', '127.0.0.1:${defaultPort ?? 1234}' or 'tls://scanner.example:${defaultPort ?? 1234}', found '${text}'`,
    });
    return z.NEVER;
  });

/** Fields for a plugin's schema. `presets`: where the engine listens on Debian. */
export const engineHostFields = (engine: string, presets: readonly string[], defaultPort?: number) => ({
  hosts: z
    .array(endpoint(defaultPort))
    .min(1)
    .prefault([...presets])
    .describe(
      `Where ${engine} listens: path of a unix socket, \`host:port\`, \`[::1]:port\` or \`tls://host:port\`. Asked in this order; one that fails is left out for \`retryAfter\`.`,
    ),
  connectTimeout: duration().prefault('5s').describe('Time for a connection.'),
  hostTimeout: duration()
    .prefault('20s')
    .describe(
      'Time that one host may take for one message before the next one is asked. With several hosts the entry’s `timeout` should be larger than the sum.',
    ),
  retryAfter: duration().prefault('30s').describe('How long a host that failed is left out.'),
});

export interface EngineHostOptions {
  readonly hosts: readonly Endpoint[];
  readonly hostTimeout: number;
  readonly retryAfter: number;
}

/** Changes of health go to the log. */
export function engineFailover(
  options: EngineHostOptions,
  host: { readonly clock: Clock; readonly log: Host['log'] },
): Failover<Endpoint> {
  return createFailover(options.hosts, formatEndpoint, {
    clock: host.clock,
    attemptMs: options.hostTimeout,
    retryMs: options.retryAfter,
    onChange(name, why) {
      if (why === undefined) host.log.info({ host: name }, 'Engine answers again');
      else host.log.warn({ host: name, why }, 'Engine does not answer');
    },
  });
}
