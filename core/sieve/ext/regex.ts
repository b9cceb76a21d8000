// Match type `:regex`, draft-murchison-sieve-regex, and its modifier `:quoteregex`.
import { defineExtension } from '../extension.ts';
import type { Regex } from '../regex.ts';
import { compileRegex } from '../regex.ts';

export const regex = defineExtension({
  name: 'regex',
  matchTypes: [
    {
      name: 'regex',
      needs: 'substring',
      checkKey(key, complain) {
        try {
          compileRegex(key, false);
        } catch (error) {
          complain((error as Error).message);
        }
      },
      prepare: (key, comparator) => compileRegex(key, comparator.fold('A') === comparator.fold('a')),
      match(value, prepared, context) {
        const { run } = context;
        run.spend(1 + (value.length >> 3));
        const found = (prepared as Regex).match(value);
        if (found && run.captures) run.captures = found.slice(0, run.setting('maxMatchValues'));
        return found !== undefined;
      },
    },
  ],
  modifiers: [
    { name: 'quoteregex', precedence: 20, apply: value => value.replace(/[\\^$.[\]|()?*+{}]/g, char => `\\${char}`) },
  ],
});
