// How `postern` commands talk to the running gateway: one JSON object per line over a unix socket in the data folder that
// only its owner may open. A request `{"command": …}` gets one `{"ok": true, "value": …}` or `{"ok": false, "error": …}`.

import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fitsSocket } from '../lib/socket-path.ts';

/** `wake`: there is new work in the queue. `learn`: a quarantined message was judged; the argument is JSON. */
export type ControlCommand = 'status' | 'reload' | 'stop' | 'fetch' | 'recipients' | 'wake' | 'learn';

export interface ControlRequest {
  readonly command: ControlCommand;
  readonly argument?: string;
}

export type ControlResponse =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: string };

/** Longest line either side accepts, bytes. */
export const maxControlLine = 1_048_576;

/** Where the gateway of this data folder listens; a folder too deep for a socket gets one in the folder for temporary files. */
export function controlSocketPath(dataFolder: string): string {
  const inFolder = path.join(dataFolder, 'control.sock');
  if (fitsSocket(inFolder)) return inFolder;
  return path.join(tmpdir(), `postern-${createHash('sha256').update(dataFolder).digest('hex').slice(0, 16)}.sock`);
}
