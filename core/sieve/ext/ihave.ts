// Test ihave and control error, RFC 5463.

import type { ExtensionDefinition, WordScope } from '../contract.ts';
import { defineExtension } from '../extension.ts';

/** RFC 5463 §4: extensions that change how strings are read cannot be made available by a test. */
function available(word: WordScope): readonly ExtensionDefinition[] | undefined {
  const found = word.strings('capabilities').map(name => word.unit.registry.capability(name));
  const usable = found.filter(
    (extension): extension is ExtensionDefinition =>
      extension !== undefined && (extension.strings === undefined || word.unit.isActive(extension.name)),
  );
  return usable.length === found.length ? usable : undefined;
}

export const ihave = defineExtension({
  name: 'ihave',
  tests: [
    {
      name: 'ihave',
      arguments: [{ name: 'capabilities', type: 'string-list', literal: true }],
      validate(word) {
        const extensions = available(word) ?? [];
        word.data = available(word);
        for (const extension of extensions) word.unit.activateLate(extension);
      },
      constant: word => word.data !== undefined,
      run(call) {
        const extensions = call.data as readonly ExtensionDefinition[] | undefined;
        for (const extension of extensions ?? []) call.run.enable(extension.name);
        return extensions !== undefined;
      },
    },
  ],
  commands: [
    {
      name: 'error',
      arguments: [{ name: 'message', type: 'string' }],
      run(call) {
        throw call.error(call.string('message'));
      },
    },
  ],
});
