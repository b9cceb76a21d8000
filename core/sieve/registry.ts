// All extensions that scripts may ask for, looked up by what they define. A registry is a value: the gateway makes one for
// personal scripts and one for its own, a stranger adds extensions by making another.
import type { ActionDefinition, Defined, ExtensionDefinition, Registry, RegistryOptions } from './contract.ts';

function index<D extends { readonly name: string }>(
  extensions: Iterable<ExtensionDefinition>,
  of: (extension: ExtensionDefinition) => readonly D[] | undefined,
): Map<string, Defined<D>[]> {
  const map = new Map<string, Defined<D>[]>();
  for (const extension of extensions)
    for (const definition of of(extension) ?? []) {
      const list = map.get(definition.name) ?? [];
      map.set(definition.name, list);
      list.push({ extension, definition });
    }
  return map;
}

/** Throws where two extensions define the same action, namespace or comparator, or have the same name. */
export function createRegistry(definitions: readonly ExtensionDefinition[], options: RegistryOptions = {}): Registry {
  const extensions = new Map<string, ExtensionDefinition>();
  for (const extension of definitions) {
    const off = extension.offByDefault === true && !options.enable?.includes(extension.name);
    if (off || options.disable?.includes(extension.name)) continue;
    if (extensions.has(extension.name)) throw new Error(`Extension '${extension.name}' is defined twice`);
    extensions.set(extension.name, extension);
  }
  const list = [...extensions.values()];
  const commands = index(list, e => e.commands);
  const tests = index(list, e => e.tests);
  const single = <D extends { readonly name: string }>(map: Map<string, Defined<D>[]>, what: string) => {
    for (const [name, found] of map) if (found.length > 1) throw new Error(`The ${what} '${name}' is defined twice`);
    return (name: string) => map.get(name)?.[0];
  };
  const actions = index(list, e => e.actions);
  single(actions, 'action');
  const capability = (name: string): ExtensionDefinition | undefined => {
    const extension = extensions.get(name);
    return extension?.hidden ? undefined : extension;
  };
  return {
    extensions,
    actions: new Map([...actions].map(([name, found]) => [name, (found[0] as Defined<ActionDefinition>).definition])),
    capability,
    capabilities: [...extensions.keys()].filter(name => capability(name) !== undefined).sort(),
    commands: name => commands.get(name) ?? [],
    tests: name => tests.get(name) ?? [],
    commandNames: [...commands.keys()],
    testNames: [...tests.keys()],
    comparator: single(
      index(list, e => e.comparators),
      'comparator',
    ),
    namespace: single(
      index(list, e => e.namespaces),
      'namespace',
    ),
  };
}
