// HTTP to rspamd over kept connections (node:http; fetch takes several times as long). The pool makes connections through
// `connect`, so that unix sockets, TLS and the time for a connection are the same as for every engine. An answer is
// bounded; a kept connection that rspamd closed meanwhile is replaced once, for that is no failure of the host.
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream';
import { type Rope, ropeChunks } from '../../core/plugin/index.ts';

export interface HttpRequest {
  readonly path: string;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Rope;
}

export interface HttpClient {
  /** Status 200 and the body; everything else rejects. */
  request(request: HttpRequest, signal: AbortSignal): Promise<Buffer>;
  close(): void;
}

const maxAnswerBytes = 4 * 1024 * 1024;

class PoolAgent extends http.Agent {
  readonly #connect: () => Promise<Duplex>;
  constructor(connect: () => Promise<Duplex>) {
    super({ keepAlive: true, maxFreeSockets: 16 });
    this.#connect = connect;
  }
  override createConnection(_options: unknown, done: (error: Error | null, socket?: Duplex) => void): undefined {
    this.#connect().then(
      socket => done(null, socket),
      (error: Error) => done(error),
    );
  }
}

async function read(response: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) throw new Error('Answer has no end');
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  if (response.statusCode === 200) return bytes;
  const text = bytes.toString('latin1', 0, 200).replace(/[^\x20-\x7e]+/g, ' ');
  throw new Error(`Answered ${response.statusCode} ${text}`.trim());
}

/** Says whether the connection was a kept one, of which nothing came back. */
class StaleConnection extends Error {}

function once(agent: http.Agent, { path, headers, body }: HttpRequest, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const request = http.request({
      agent,
      method: body ? 'POST' : 'GET',
      path,
      headers: { ...headers, ...(body ? { 'Content-Length': String(body.size) } : {}) } as http.OutgoingHttpHeaders,
      signal,
    });
    let isAnswered = false;
    let unreadable: Error | undefined;
    request.once('response', response => {
      isAnswered = true;
      read(response).then(resolve, (error: Error) => {
        request.destroy();
        reject(error);
      });
    });
    request.once('error', (error: Error) => {
      if (signal.aborted) reject(signal.reason as Error);
      else reject(request.reusedSocket ? new StaleConnection(error.message, { cause: error }) : error);
    });
    // A request that ends before it has a connection has no error to tell.
    request.once('close', () => {
      if (!isAnswered) reject(unreadable ?? new Error('Closed without an answer'));
    });
    if (!body) request.end();
    else
      pipeline(ropeChunks(body), request, error => {
        // A file that cannot be read; what the connection has to say comes by its own event.
        unreadable = error ?? undefined;
        if (error) request.destroy(error);
      });
  });
}

export function createHttpClient(connect: () => Promise<Duplex>): HttpClient {
  const agent = new PoolAgent(connect);
  return {
    async request(request, signal) {
      for (let attempt = 0; ; attempt++) {
        try {
          return await once(agent, request, signal);
        } catch (error) {
          if (!(error instanceof StaleConnection) || attempt >= 16) throw error;
        }
      }
    },
    close: () => agent.destroy(),
  };
}
