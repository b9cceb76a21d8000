// Test duplicate, RFC 7352. What was seen is remembered only after the script and its actions succeeded.

import { createHash } from 'node:crypto';
import type { Call } from '../contract.ts';
import { defineExtension } from '../extension.ts';

/** undefined: the message has no such id, and is no duplicate (RFC 7352 §3.1). */
function uniqueId(call: Call): string | undefined {
  const given = call.maybeString('uniqueid');
  if (given !== undefined) return given;
  return call.run.headers.values(call.maybeString('header') ?? 'message-id')[0];
}

const remembered = Symbol('remembered ids');

async function duplicate(call: Call): Promise<boolean> {
  const { run } = call;
  const tracking = run.host.tracking;
  const id = uniqueId(call);
  call.looked(id === undefined ? [] : [id]);
  if (id === undefined || id === '' || !tracking) return false;
  const { defaultSeconds, maxSeconds } = run.setting('duplicate');
  const wished = call.maybeNumber('seconds') ?? defaultSeconds;
  const seconds = maxSeconds > 0 ? Math.min(wished, maxSeconds) : wished;
  // RFC 7352 §3.2: an empty handle is no other list than none.
  const handle = call.maybeString('handle') ?? '';
  const key = `duplicate:${createHash('sha256').update(`${handle}\0${id}`).digest('hex')}`;
  run.spend(10);
  const seen = await run.wait(tracking.seen(key));
  const known = run.state(remembered, () => new Set<string>());
  // RFC 7352 §3.3: with `:last` the time counts from the last message, otherwise from the first.
  if ((!seen || call.has('last')) && !known.has(key)) {
    known.add(key);
    run.afterwards(() => tracking.remember(key, seconds));
  }
  return seen;
}

export const duplicateExtension = defineExtension({
  name: 'duplicate',
  tests: [
    {
      name: 'duplicate',
      tags: [
        { name: 'handle', type: 'string' },
        { name: 'header', type: 'string', group: 'unique id' },
        { name: 'uniqueid', type: 'string', group: 'unique id' },
        { name: 'seconds', type: 'number' },
        { name: 'last' },
      ],
      run: duplicate,
    },
  ],
});
