// How `postern` commands talk to the running gateway: one JSON object per line over a unix socket in the data folder that
// only its owner may open. A request `{"command": …}` gets one `{"ok": true, "value": …}` or `{"ok": false, "error": …}`.

export type ControlCommand = 'status' | 'reload' | 'stop' | 'flush';

export interface ControlRequest {
  readonly command: ControlCommand;
  readonly argument?: string;
}

export type ControlResponse =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: string };

/** Longest line either side accepts, bytes. */
export const maxControlLine = 1_048_576;

export const controlSocketName = 'control.sock';
