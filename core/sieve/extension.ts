// The one function by which words enter the language, for built-ins and for extensions from outside alike.
import type { ExtensionDefinition } from './contract.ts';

/** Checks the definition's own shape, gives it back. Throws on a definition that could never work. */
export function defineExtension<const E extends ExtensionDefinition>(extension: E): E {
  const word = /^[a-z_][a-z0-9_]*$/;
  const names = [
    ...(extension.commands ?? []),
    ...(extension.tests ?? []),
    ...(extension.tags ?? []),
    ...(extension.matchTypes ?? []),
    ...(extension.addressParts ?? []),
    ...(extension.modifiers ?? []),
  ].map(entry => entry.name);
  const bad = names.find(name => !word.test(name));
  if (bad !== undefined) throw new Error(`Extension '${extension.name}' defines '${bad}', which is no lower-case word`);
  return extension;
}
