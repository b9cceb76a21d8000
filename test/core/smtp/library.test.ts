// What `core/smtp/connection.ts` relies on in smtp-server beyond its documented interface. When this fails after an
// upgrade, read the new source beside that file before anything else.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { SMTPServer } from 'smtp-server';
import { SMTPConnection } from 'smtp-server/lib/smtp-connection';
import type { SMTPStream } from 'smtp-server/lib/smtp-stream';
import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { until } from '../../harness/gateway-files.ts';
import { startFixture } from './fixture.ts';

t.test('the version that was read', async t => {
  const entry = createRequire(import.meta.url).resolve('smtp-server');
  const file = path.join(entry.slice(0, entry.lastIndexOf('smtp-server/dist')), 'smtp-server', 'package.json');
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly version: string };
  t.equal(version, '3.21.6');
});

t.test('the methods that are overridden are there', async t => {
  const connection = SMTPConnection.prototype as unknown as Readonly<Record<string, unknown>>;
  for (const name of ['init', 'send', 'close', '_createParser', '_onClose', '_onError', '_armTimeout'])
    t.type(connection[name], 'function', `SMTPConnection.${name}`);
  const server = SMTPServer.prototype as unknown as Readonly<Record<string, unknown>>;
  for (const name of ['updateSecureContext', '_warnAboutDefaultCertificate'])
    t.type(server[name], 'function', `SMTPServer.${name}`);
});

/** A connection of the library with our overrides alone, and what it did to them. */
async function connected(): Promise<{
  readonly connection: SMTPConnection;
  readonly calls: string[];
  readonly client: Socket;
  close(): Promise<void>;
}> {
  const calls: string[] = [];
  class Server extends SMTPServer {
    override updateSecureContext(): void {
      calls.push('updateSecureContext');
      this.secureContext = new Map();
    }
    override _warnAboutDefaultCertificate(): void {
      calls.push('_warnAboutDefaultCertificate');
    }
  }
  class Connection extends SMTPConnection {
    override _createParser(): SMTPStream {
      calls.push('_createParser');
      return {
        set isClosed(value: boolean) {
          calls.push(`isClosed ${value}`);
        },
      } as unknown as SMTPStream;
    }
    override _armTimeout(): void {
      calls.push('_armTimeout');
    }
  }
  const server = new Server({ logger: false, name: 'mx.example.org' });
  server.on('error', error => calls.push(String(error)));
  const listener = createServer();
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as { readonly port: number };
  const client = connect(port, '127.0.0.1');
  client.on('error', () => undefined);
  client.resume();
  const [socket] = (await once(listener, 'connection')) as [Socket];
  const connection = new Connection(server, socket, {
    id: 'S1',
    localAddress: '127.0.0.1',
    localPort: 1,
    remoteAddress: '192.0.2.1',
    remotePort: 2,
  });
  return {
    connection,
    calls,
    client,
    async close() {
      client.destroy();
      socket.destroy();
      listener.close();
      await once(listener, 'close');
    },
  };
}

t.test('constructors call the overrides, and no built-in certificate is loaded', async t => {
  const { connection, calls, close } = await connected();
  t.same(calls, ['_warnAboutDefaultCertificate', 'updateSecureContext', '_createParser']);
  t.match(connection, { id: 'S1', remoteAddress: '192.0.2.1', remotePort: 2, _upgrading: false, _closing: false });
  await close();
});

t.test('close() ends the socket, retires the parser and hears the end of a client that stays', async t => {
  const { connection, calls, client, close } = await connected();
  const socket = connection._socket;
  connection.close();
  t.ok(calls.includes('isClosed true'));
  t.equal(socket.writableEnded, true);
  await once(client, 'close');
  connection._onClose();
  t.equal(connection._closed, true);
  await close();
});

t.test('none of its replies, pauses and commands comes through', async t => {
  const fixture = await startFixture({ clock: systemClock });
  const greeted = async () => {
    const started = performance.now();
    const client = connect(fixture.server.address.port, '127.0.0.1');
    const [greeting] = (await once(client, 'data')) as [Buffer];
    return { client, greeting, ms: performance.now() - started };
  };
  // Its own pause is 100 ms for every client. On a busy machine one may be greeted late without it, but not all.
  await until(async () => {
    const { client, ms } = await greeted();
    client.destroy();
    return ms < 90;
  }, 'a greeting without a pause');
  const { client, greeting } = await greeted();
  t.equal(String(greeting), '220 mx.example.org ESMTP\r\n');
  client.end('WIZ\r\nSHELL\r\nKILL\r\nXFORWARD NAME=x\r\nPOSTERN\r\nQUIT\r\n');
  let text = '';
  client.on('data', data => {
    text += data;
  });
  await once(client, 'close');
  t.equal(text, `${'500 5.5.2 Command not recognized\r\n'.repeat(5)}221 2.0.0 Bye\r\n`);
  await fixture.close();
});
