// A ManageSieve listener over a real script store; with the real compiler, or with a check that knows `keep` and `discard`
// and whose words never change.
import path from 'node:path';
import { systemClock } from '../../../core/lib/clock.ts';
import { createManageSieveServer, type ManageSieveServerOptions } from '../../../core/managesieve/server.ts';
import type { SessionServer } from '../../../core/net/session-server.ts';
import { checkScript } from '../../../core/sieve/check-script.ts';
import type { Diagnostic } from '../../../core/sieve/diagnostic.ts';
import { openScriptStore, type SieveScripts } from '../../../core/sieve/script-store.ts';
import { standardRegistry } from '../../../core/sieve/standard.ts';
import { openSqliteState } from '../../../core/state/sqlite.ts';
import { testAccounts } from '../../harness/accounts.ts';
import { type ProtocolFixtureOptions, protocolFixture } from '../../harness/protocol-fixture.ts';

/** `warn;` gives a warning, any other unknown command an error. */
export function toyCheck(content: Buffer): readonly Diagnostic[] {
  return content
    .toString()
    .split(/\r?\n/)
    .flatMap((text, index): readonly Diagnostic[] => {
      const word = /^\s*([a-z]+)/.exec(text)?.[1];
      if (word === undefined || ['keep', 'discard', 'require', 'if', 'fileinto', 'stop'].includes(word)) return [];
      const severity = word === 'warn' ? 'warning' : 'error';
      return [{ severity, line: index + 1, column: 1, message: `Unknown command '${word}'` }];
    });
}

export interface ManageSieveFixture {
  readonly server: SessionServer;
  readonly port: number;
  readonly scripts: SieveScripts;
  readonly folder: string;
  readonly complaints: readonly string[];
  close(): Promise<void>;
}

export interface FixtureOptions extends ProtocolFixtureOptions {
  readonly limits?: ManageSieveServerOptions['limits'];
  readonly maxScripts?: number;
  readonly maxBytes?: number;
  readonly realCompiler?: boolean;
}

export async function startManageSieve(given: FixtureOptions = {}): Promise<ManageSieveFixture> {
  const parts = await protocolFixture('sieve', given);
  const { folder, complaints } = parts;
  const accounts = testAccounts(folder);
  const state = await openSqliteState(path.join(folder, 'state.db'));
  const scripts = await openScriptStore({
    state,
    clock: systemClock,
    check: given.realCompiler ? checkScript : toyCheck,
    ...(given.maxScripts !== undefined && { maxScripts: given.maxScripts }),
    ...(given.maxBytes !== undefined && { maxBytes: given.maxBytes }),
  });
  const server = createManageSieveServer({
    ...parts.common,
    listener: parts.listener,
    directory: accounts.directory,
    scripts,
    extensions: given.realCompiler ? standardRegistry().capabilities : ['fileinto', 'vacation'],
    notifyMethods: ['mailto'],
    maxRedirects: 4,
    ...(given.limits && { limits: given.limits }),
  });
  await server.listen();
  return {
    server,
    port: server.address.port,
    scripts,
    folder,
    complaints,
    async close() {
      await server.close(1000);
      await state.close();
      await accounts.close();
      await parts.removeFolder();
    },
  };
}
