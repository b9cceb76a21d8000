// postern trace ID: what every hook decided about one message, and why.

import { openTraces } from '../compose/stores.ts';
import { loadConfig } from '../config/load.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';
import { renderTrace } from './render-trace.ts';

export async function trace(context: CliContext, id: string): Promise<ExitCode> {
  const traces = await openTraces(loadConfig(context.configFile, context.workingFolder), context.clock, context.log);
  try {
    const found = await traces.find(id);
    if (!found) throw new UsageError(`No trace of '${id}'`, exitCodes.negative);
    print(context, found, () =>
      [
        renderTrace(found.record, context.color),
        ...found.events.map(
          event =>
            `  ${new Date(event.at).toISOString()} ${event.address}: ${event.outcome}${event.detail ? ` (${event.detail})` : ''}`,
        ),
      ].join('\n'),
    );
    return exitCodes.ok;
  } finally {
    await traces.close();
  }
}
