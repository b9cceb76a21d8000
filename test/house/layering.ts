// What may import what, as functions over the files, so that the rules themselves are tested on files that break them.
// An own scan and not dependency-cruiser: that takes four seconds for what takes a tenth of one here.
import type { SourceFile } from './source-files.ts';

const values = ['lib', 'mail'];
const contract = [...values, 'config/schema.ts', 'plugin'];
const belowParts = [...contract, 'config', 'state/state.ts'];
const parts = [
  'state',
  'pipeline',
  'queue',
  'quarantine',
  'relay',
  'mailstore',
  'accounts',
  'sieve',
  'net',
  'intake',
  'recipients',
];
const servers = ['smtp', 'imap', 'pop3', 'managesieve', 'console'];
/** Composition: these put the parts together and may import everything. */
const top = [
  'cli',
  'setup',
  'doctor',
  'compose',
  'control',
  'testing',
  'gateway.ts',
  'main.ts',
  'log.ts',
  'supervisor.ts',
];

/** For each area of `core/` what it may import besides itself; prefixes relative to `core/`. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  mail: ['lib'],
  config: ['lib'],
  plugin: ['mail', 'config/schema.ts', 'lib'],
  ...Object.fromEntries(parts.map(part => [part, belowParts])),
  // Its index of a mailbox is an SQLite file of its own, and one file knows SQLite.
  mailstore: [...belowParts, 'state/sqlite-driver.ts'],
  ...Object.fromEntries(servers.map(server => [server, [...belowParts, ...parts]])),
};

const within = (file: string, prefix: string): boolean => file === prefix || file.startsWith(`${prefix}/`);
const areaOf = (coreFile: string): string => coreFile.split('/', 1)[0] ?? '';

function checkCoreImport(from: string, to: string): string | undefined {
  const area = areaOf(from);
  if (top.includes(area)) return undefined;
  if (!to.startsWith('core/')) return to.startsWith('plugins/') ? 'core must not name a plugin' : 'outside core';
  const target = to.slice('core/'.length);
  const rule = allowed[area];
  if (!rule) return `no rule for core/${area}: add it to the map of the house`;
  if (areaOf(target) === area || rule.some(prefix => within(target, prefix))) return undefined;
  return `core/${area} may import only ${rule.join(', ') || 'Node'}`;
}

function checkPluginImport(from: string, to: string): string | undefined {
  const folder = from.split('/')[1] ?? '';
  if (from === 'plugins/index.ts' || to.startsWith(`plugins/${folder}/`)) return undefined;
  if (within(to, 'core/plugin')) return undefined;
  if (/^plugins\/[^/]+\/results\.ts$/.test(to)) return undefined;
  return 'a plugin may import core/plugin, its own folder, packages and results.ts of others';
}

const isFile = (target: string): boolean =>
  /^(?:core|plugins|test|bench|config)\//.test(target) || target.startsWith('..');

export function checkLayers(files: readonly SourceFile[]): readonly string[] {
  return files.flatMap(({ file, imports }) =>
    imports.flatMap(target => {
      if (!isFile(target)) return [];
      const fault = file.startsWith('core/')
        ? checkCoreImport(file.slice('core/'.length), target)
        : checkPluginImport(file, target);
      return fault === undefined ? [] : [`${file} imports ${target}: ${fault}`];
    }),
  );
}

/** `lib` and `mail` know Node, and the packages named here. */
const packagesOfValues: Readonly<Record<string, readonly string[]>> = { lib: [], mail: ['iconv-lite'] };

export function checkValuePackages(files: readonly SourceFile[]): readonly string[] {
  return files.flatMap(({ file, imports }) => {
    const known = file.startsWith('core/') ? packagesOfValues[areaOf(file.slice('core/'.length))] : undefined;
    if (!known) return [];
    return imports
      .filter(target => !isFile(target) && !target.startsWith('node:') && !known.includes(target))
      .map(target => `${file} imports the package ${target}`);
  });
}

/** Packages with sockets or files of their own, and those that only one file should have to understand. */
const singleFilePackages = [
  'smtp-server',
  'nodemailer',
  'clamscan',
  'dnsbl',
  '@photostructure/sqlite',
  'node:sqlite',
  'iconv-lite',
  'dns-packet',
  'mailauth',
  'ldapts',
  'pg',
  'ioredis',
] as const;

/** Each entry point of such a package is known to one file: mailauth has one for each standard. */
export function checkSingleKnower(files: readonly SourceFile[]): readonly string[] {
  const knowers = new Map<string, Set<string>>();
  for (const { file, imports } of files)
    for (const target of imports)
      if (singleFilePackages.some(name => within(target, name)))
        knowers.set(target, (knowers.get(target) ?? new Set()).add(file));
  return [...knowers]
    .filter(([, known]) => known.size > 1)
    .map(([name, known]) => `${name} is known to ${[...known].sort().join(' and ')}`);
}

/** Import cycles, each once, as the files on it in order. */
export function findCycles(files: readonly SourceFile[]): readonly string[] {
  const graph = new Map(files.map(({ file, imports }) => [file, imports]));
  const done = new Set<string>();
  const onPath: string[] = [];
  const cycles: string[] = [];
  const visit = (file: string): void => {
    const seenAt = onPath.indexOf(file);
    if (seenAt >= 0) {
      cycles.push([...onPath.slice(seenAt), file].join(' → '));
      return;
    }
    if (done.has(file)) return;
    onPath.push(file);
    for (const target of graph.get(file) ?? []) if (graph.has(target)) visit(target);
    onPath.pop();
    done.add(file);
  };
  for (const { file } of files) visit(file);
  return cycles;
}

/** `process.env` and `process.argv` belong to the command line; state at module level belongs to nobody. */
export function checkGlobals(files: readonly SourceFile[]): readonly string[] {
  return files.flatMap(({ file, text }) => [
    ...(file !== 'core/main.ts' && /\bprocess\.(?:env|argv)\b/.test(text)
      ? [`${file} reads process.env or process.argv`]
      : []),
    ...(/^(?:export )?(?:let|var) /m.test(text) ? [`${file} has mutable module state`] : []),
  ]);
}
