// A stand-in for an issuer of tokens, which speaks RFC 7662 and knows what it is told. Debian has no such server.
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

export interface TokenIssuer {
  readonly url: string;
  /** Token → claims; the rest is not active. */
  readonly tokens: Map<string, Readonly<Record<string, unknown>>>;
  /** Answers instead, where set. */
  behave: ((response: ServerResponse) => void) | undefined;
  readonly asked: { readonly authorization: string | undefined; readonly form: URLSearchParams }[];
  close(): Promise<void>;
}

export async function startTokenIssuer(tls?: { readonly key: string; readonly cert: string }): Promise<TokenIssuer> {
  const tokens: TokenIssuer['tokens'] = new Map();
  const asked: TokenIssuer['asked'] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const form = new URLSearchParams(body);
    asked.push({ authorization: request.headers.authorization, form });
    if (issuer.behave) return issuer.behave(response);
    const claims = tokens.get(form.get('token') ?? '');
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(claims ? { active: true, ...claims } : { active: false }));
  };
  // One that leaves in the middle of its question hears nothing.
  const listener: RequestListener = (request, response) => {
    answer(request, response).catch(() => response.destroy());
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>(resolve => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const issuer: TokenIssuer = {
    url: tls ? `https://localhost:${port}/introspect` : `http://127.0.0.1:${port}/introspect`,
    tokens,
    behave: undefined,
    asked,
    async close() {
      const closed = new Promise(resolve => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  return issuer;
}
