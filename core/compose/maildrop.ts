// Where the maildrop of a configuration is and what completes an address there: the command that writes and the gateway
// that reads must agree.
import path from 'node:path';
import type { LoadedConfig } from '../config/load.ts';

// Not by `dataFolder` of the stores: `sendmail` runs for each message and needs none of what that brings along.
export const maildropFolder = (config: LoadedConfig): string =>
  path.resolve(config.folder, config.options.dataDir, config.options.sendmail.maildrop);

/** Domain of addresses without one (Postfix: `myorigin`). */
export const originOf = ({ options }: LoadedConfig, hostname: string): string =>
  options.sendmail.origin ?? options.domains[0]?.name ?? hostname.toLowerCase();
