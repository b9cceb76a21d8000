// Scripts of the gateway and of a user on one message, in order, as one result.
import type { Logger } from 'pino';
import type { Program, SieveHost, SieveResult } from '../sieve/contract.ts';
import { formatDiagnostics } from '../sieve/diagnostic.ts';
import { run } from '../sieve/run.ts';

export interface OrderedScripts {
  readonly before: readonly Program[];
  readonly personal: Program | undefined;
  readonly after: readonly Program[];
}

/** Each script only while the implicit keep of the one before it stands. Undefined: there is none. */
export async function evaluateScripts(
  { before, personal, after }: OrderedScripts,
  host: SieveHost,
  log: Logger,
): Promise<SieveResult | 'deferred' | undefined> {
  let result: SieveResult | undefined;
  for (const program of [...before, ...(personal ? [personal] : []), ...after]) {
    const next: SieveResult = await run(program, host, result === undefined ? {} : { after: result });
    if (next.status === 'tempfail') return 'deferred';
    if (next.status !== 'ok' && program !== personal) {
      // The administrator's script must not spoil the user's.
      log.warn({ script: program.name, errors: formatDiagnostics(next.diagnostics) }, 'Global rules failed');
      continue;
    }
    result = next;
    if (next.status !== 'ok' || !next.keep) return result;
  }
  return result;
}
