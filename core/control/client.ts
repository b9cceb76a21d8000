import { connect } from 'node:net';
import { type ControlRequest, type ControlResponse, maxControlLine } from './protocol.ts';

/** No gateway answers at the control socket. */
export class NotRunningError extends Error {
  override readonly name = 'NotRunningError';
}

/** Asks the running gateway; rejects with `NotRunningError` when there is none, with the gateway's words when it refused. */
export function askGateway(socketFile: string, request: ControlRequest, timeoutMs = 60_000): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketFile);
    let text = '';
    const timer = setTimeout(
      () => socket.destroy(new Error(`The gateway did not answer '${request.command}' within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const fail = (error: NodeJS.ErrnoException): void => {
      clearTimeout(timer);
      const absent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      reject(
        absent
          ? new NotRunningError(`The gateway is not running (nothing listens at ${socketFile})`, { cause: error })
          : error,
      );
    };
    socket.setEncoding('utf8');
    socket.on('error', fail);
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('close', () => fail(new Error('The gateway closed the control connection')));
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > maxControlLine) socket.destroy(new Error('The gateway sent too long an answer'));
      const end = text.indexOf('\n');
      if (end < 0) return;
      clearTimeout(timer);
      const response = JSON.parse(text.slice(0, end)) as ControlResponse;
      if (response.ok) resolve(response.value);
      else reject(new Error(response.error));
      socket.end();
    });
  });
}
