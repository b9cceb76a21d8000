// Loading a plugin's module so that a change of its files is a new module, beside the old one that sessions still use.
// Node keeps every module by its URL for ever: the URL carries a revision, a hash over the module and the files beside
// it that it imports, and a loader hook passes the revision on to those imports. What is replaced stays in memory until
// the process ends, as Node has no way to let a module go.
// Packages that a plugin imports by name are not looked at: they change with an update, and that is a restart.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import * as nodeModule from 'node:module';
import { fileURLToPath } from 'node:url';

const revisionKey = 'postern-revision';
/** Files of one plugin that are looked at; beyond that they count as unchanged. */
const maxFiles = 500;
/** Core itself is never loaded a second time: its classes are told by identity. */
const core = new URL('../', import.meta.url).href;
/** Static and dynamic imports, and `require`, of what lies beside the module. */
const relativeImport = /(?:\bfrom|\bimport|\bimport\s*\(|\brequire\s*\()\s*(['"])(\.{1,2}\/[^'"\n]+)\1/g;

const read = (file: string): Promise<string | undefined> => readFile(file, 'utf8').catch(() => undefined);

/** The module's file and, through all of them, the files that they import by relative path; with their content. */
async function closure(url: string): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const pending = [url];
  for (let next = pending.pop(); next !== undefined && found.size < maxFiles; next = pending.pop()) {
    const file = fileURLToPath(next);
    if (found.has(file) || next.startsWith(core)) continue;
    const text = await read(file);
    if (text === undefined) continue;
    found.set(file, text);
    for (const match of text.matchAll(relativeImport)) {
      const target = new URL(match[2] ?? '', next).href;
      // `require` leaves endings out.
      pending.push(target, `${target}.js`, `${target}.cjs`, `${target}/index.js`);
    }
  }
  return found;
}

/** Changes with the content of the module's own files; a module that cannot be read has one too. */
export async function moduleRevision(url: string): Promise<string> {
  if (!url.startsWith('file:')) return 'fixed';
  const hash = createHash('sha256');
  for (const [file, text] of [...(await closure(url))].sort()) hash.update(`${file}\0${text}\0`);
  return hash.digest('hex').slice(0, 16);
}

interface Resolved {
  readonly url: string;
}
interface ResolveContext {
  readonly parentURL?: string;
}
type Next = (specifier: string, context: ResolveContext) => Resolved;
interface SyncHooks {
  resolve(specifier: string, context: ResolveContext, next: Next): Resolved;
}

/** What an import resolves to, as the module that asks has it; `parentURL` of CommonJS has no revision. */
function withRevision<T extends Resolved>(specifier: string, parentURL: string | undefined, found: T): T {
  if (!parentURL?.startsWith('file:') || !found.url.startsWith('file:') || !specifier.startsWith('.')) return found;
  const revision = new URL(parentURL).searchParams.get(revisionKey);
  if (revision === null || found.url.startsWith(core)) return found;
  const url = new URL(found.url);
  url.searchParams.set(revisionKey, revision);
  return { ...found, url: url.href };
}

/** The same for Node that has only the hook that runs in a thread of its own, as the source that it wants. */
const threadHook = `const revisionKey = ${JSON.stringify(revisionKey)};
const core = ${JSON.stringify(core)};
${withRevision.toString()}
export async function resolve(specifier, context, next) {
  return withRevision(specifier, context.parentURL, await next(specifier, context));
}`;

const installed = Symbol.for('postern.revision-hook');

/** Loaders belong to the process, whatever runs in it: installed at the first plugin that is a module, once. */
function installHook(): void {
  if (installed in globalThis) return;
  Object.defineProperty(globalThis, installed, { value: true });
  // Node 22.15 and later; types are those of Node 20.
  const { registerHooks } = nodeModule as { registerHooks?: (hooks: SyncHooks) => unknown };
  if (registerHooks)
    registerHooks({
      resolve: (specifier, context, next) => withRevision(specifier, context.parentURL, next(specifier, context)),
    });
  else nodeModule.register(`data:text/javascript,${encodeURIComponent(threadHook)}`);
}

/** Imports a module as it is in this revision. */
export async function importFresh(url: string, revision: string): Promise<Readonly<Record<string, unknown>>> {
  if (!url.startsWith('file:')) return import(url);
  installHook();
  // CommonJS modules are kept by file name, without the revision.
  const { cache } = nodeModule.createRequire(url);
  for (const file of (await closure(url)).keys()) delete cache[file];
  const fresh = new URL(url);
  fresh.searchParams.set(revisionKey, revision);
  return import(fresh.href);
}
