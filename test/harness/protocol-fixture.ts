// What the fixtures of the protocol servers share: a folder of their own, a log whose complaints are kept, a certificate.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Logger, pino } from 'pino';
import { type Clock, systemClock } from '../../core/lib/clock.ts';
import type { SessionListenerOptions } from '../../core/net/session-server.ts';
import { ensureSelfSigned, openTls, type Tls } from '../../core/net/tls.ts';

export interface ProtocolFixtureOptions {
  readonly listener?: Partial<SessionListenerOptions>;
  readonly clock?: Clock;
  readonly withTls?: boolean;
}

export interface ProtocolFixtureParts {
  readonly folder: string;
  /** Lines of level warn and above. */
  readonly complaints: readonly string[];
  readonly listener: SessionListenerOptions;
  /** For the server's options, as they are. */
  readonly common: { readonly log: Logger; readonly clock: Clock; readonly tls?: Tls };
  removeFolder(): Promise<void>;
}

export async function protocolFixture(name: string, given: ProtocolFixtureOptions): Promise<ProtocolFixtureParts> {
  const folder = await mkdtemp(path.join(tmpdir(), `postern-${name}-`));
  const complaints: string[] = [];
  const files = given.withTls
    ? await ensureSelfSigned(path.join(folder, 'tls'), ['localhost'], systemClock)
    : undefined;
  return {
    folder,
    complaints,
    listener: {
      name,
      target: { host: '127.0.0.1', port: 0 },
      tls: given.withTls ? 'starttls' : 'none',
      allowPlaintextAuth: true,
      ...given.listener,
    },
    common: {
      log: pino({ level: 'warn' }, { write: (line: string) => complaints.push(line) }),
      clock: given.clock ?? systemClock,
      ...(files && { tls: openTls({ certificates: [files], clock: systemClock }) }),
    },
    removeFolder: () => rm(folder, { recursive: true, force: true }),
  };
}
