// A whole gateway in process, on free ports and in a folder of its own: what end-to-end tests drive.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { loadConfig } from '../../core/config/load.ts';
import { type Gateway, startGateway } from '../../core/gateway.ts';
import { systemClock } from '../../core/lib/clock.ts';
import type { TraceRecord } from '../../core/mail/trace.ts';
import { guardedLogger } from './log-guard.ts';

export interface TestGateway {
  readonly gateway: Gateway;
  readonly folder: string;
  readonly traces: readonly TraceRecord[];
  /** Port of the listener of that name. */
  port(name: string): number;
  stop(): Promise<void>;
}

/** Listeners of every role; the names are what `port` takes. */
export const allListeners = `
  - { name: smtp, role: smtp, port: 0 }
  - { name: submission, role: submission, port: 0 }
  - { name: submissions, role: submission, port: 0, tls: implicit }
  - { name: lmtp, role: lmtp, port: 0 }
  - { name: imap, role: imap, port: 0 }
  - { name: imaps, role: imap, port: 0, tls: implicit }
  - { name: pop3, role: pop3, port: 0 }
  - { name: pop3s, role: pop3, port: 0, tls: implicit }
  - { name: sieve, role: managesieve, port: 0 }`;

export interface TestGatewayOptions {
  /** A folder that the test owns; a second start in the same one keeps the data. */
  readonly folder: string;
  /** YAML that replaces the default test configuration below `listeners`. */
  readonly yaml?: string;
  readonly listeners?: string;
  readonly log?: Logger;
}

const defaultYaml = `
hostname: mx.example.org
domains: [{ name: example.org }]
chain: [auth, limits, relay-policy, aliases, recipients, rfc822]
`;

export async function startTestGateway(options: TestGatewayOptions): Promise<TestGateway> {
  mkdirSync(options.folder, { recursive: true });
  const file = path.join(options.folder, 'postern.yaml');
  writeFileSync(
    file,
    `dataDir: data\n${options.yaml ?? defaultYaml}\nlisteners:${options.listeners ?? allListeners}\n`,
  );
  const traces: TraceRecord[] = [];
  const gateway = await startGateway({
    config: loadConfig(file, options.folder),
    log: options.log ?? guardedLogger(),
    clock: systemClock,
    env: {},
    version: 'test',
    onTrace: trace => traces.push(trace),
  });
  return {
    gateway,
    folder: options.folder,
    traces,
    port(name) {
      const found = gateway.listeners().find(listener => listener.name === name);
      if (!found) throw new Error(`No listener '${name}'`);
      return found.port;
    },
    stop: () => gateway.stop(),
  };
}
