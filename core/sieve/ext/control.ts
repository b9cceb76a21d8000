// Control commands, RFC 5228 §3.
import type { WordScope } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { nearest } from '../suggest.ts';

/** What a branch leaves for the next of its chain at compile time: whether one before it is always taken. */
interface Chain {
  readonly taken: boolean;
}

function reachable(word: WordScope): boolean {
  const before = word.name !== 'if' && (word.previous?.data as Chain | undefined)?.taken === true;
  const constant = word.name === 'else' ? true : word.constants[0];
  word.data = { taken: before || constant === true } satisfies Chain;
  return !before && constant !== false;
}

export const control = defineExtension({
  name: 'control',
  always: true,
  hidden: true,
  commands: [
    {
      // RFC 5228 §3.2
      name: 'require',
      prologue: true,
      arguments: [{ name: 'capabilities', type: 'string-list', literal: true }],
      validate(word) {
        const missing = word.strings('capabilities').filter(name => !word.unit.require(name, word.node.nameSpan));
        for (const name of missing) {
          const near = nearest(name, word.unit.registry.capabilities);
          const hint = near === undefined ? '' : `, did you mean ${quote(near)}?`;
          word.error(`Unknown extension ${quote(name)}${hint}`, 'capabilities');
        }
      },
      run: () => undefined,
    },
    {
      // RFC 5228 §3.1. The value is whether a branch of the chain was taken.
      name: 'if',
      tests: 'one',
      block: true,
      reachable,
      run(call) {
        const met = call.test();
        if (met === false) return false;
        if (met === true) return call.block().then(() => true);
        return met.then(value => (value ? call.block().then(() => true) : false));
      },
    },
    {
      name: 'elsif',
      tests: 'one',
      block: true,
      follows: ['if', 'elsif'],
      reachable,
      run(call) {
        if (call.previous === true) return true;
        const met = call.test();
        if (met === false) return false;
        if (met === true) return call.block().then(() => true);
        return met.then(value => (value ? call.block().then(() => true) : false));
      },
    },
    {
      name: 'else',
      block: true,
      follows: ['if', 'elsif'],
      reachable,
      run: call => (call.previous === true ? true : call.block()),
    },
    { name: 'stop', run: call => call.stop() },
  ],
});
