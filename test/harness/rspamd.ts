// A real rspamd with a configuration of its own: rules about headers and bodies, no network, no Redis.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePorts } from './gateway-process.ts';

export interface Rspamd extends EngineProcess {
  readonly socket: string;
  readonly port: number;
  readonly controllerPort: number;
}

export async function startRspamd(t: Teardown): Promise<Rspamd> {
  const folder = await engineFolder(t, 'rspamd');
  const run = path.join(folder, 'run');
  await mkdir(run);
  const socket = path.join(run, 'normal.sock');
  const [port = 0, controllerPort = 0] = await freePorts(2);
  const file = path.join(folder, 'rspamd.conf');
  // The real list of top-level domains takes twenty seconds to compile.
  const domains = path.join(folder, 'domains');
  await writeFile(domains, 'com\norg\nnet\nexample\ntest\n');
  await writeFile(
    file,
    `options {
  pidfile = "${run}/pid"; tempdir = "${run}"; rundir = "${run}"; hs_cache_dir = "${run}";
  control_socket = "${run}/control.sock mode=0600";
  url_tld = "${domains}";
  filters = "chartable,regexp";
  gtube_patterns = "all";
  disable_hyperscan = true;
  dns { nameserver = "127.0.0.1:1"; timeout = 50ms; retransmits = 1; }
}
logging { type = "console"; level = "notice"; }
actions { reject = 15; add_header = 6; greylist = 4; }
milter_headers { use = ["x-spamd-bar", "authentication-results", "x-spam-status"]; skip_local = false; }
modules { path = "/usr/share/rspamd/plugins/milter_headers.lua"; }
lua = "/usr/share/rspamd/rules/rspamd.lua";
worker "normal" { bind_socket = "127.0.0.1:${port}"; bind_socket = "${socket} mode=0666"; count = 1; }
worker "controller" { bind_socket = "127.0.0.1:${controllerPort}"; secure_ip = "127.0.0.1"; count = 1; }
`,
  );
  const program = findEngine('rspamd');
  if (!program) throw new Error('rspamd is not installed');
  const args = ['--no-fork', '--insecure', '--config', file];
  const engine = startEngine(t, program, process.getuid?.() === 0 ? args : args.filter(arg => arg !== '--insecure'));
  await untilAccepts({ path: socket });
  for (const each of [port, controllerPort]) await untilAccepts({ port: each, host: '127.0.0.1' });
  return { ...engine, socket, port, controllerPort };
}
