// Match types `:count` and `:value`, RFC 5231.
import type { Complain } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';

const relations: Readonly<Record<string, (order: number) => boolean>> = {
  gt: order => order > 0,
  ge: order => order >= 0,
  lt: order => order < 0,
  le: order => order <= 0,
  eq: order => order === 0,
  ne: order => order !== 0,
};

function checkRelation(name: string, complain: Complain): void {
  if (!(name.toLowerCase() in relations))
    complain(`Unknown relation ${quote(name)}, use "gt", "ge", "lt", "le", "eq" or "ne"`);
}

const relation = (name: string | undefined) => relations[(name ?? '').toLowerCase()] ?? (() => false);
const parameter = { name: 'relation', check: checkRelation };

export const relational = defineExtension({
  name: 'relational',
  matchTypes: [
    {
      // RFC 5231 §5: the number of values, compared with each key
      name: 'count',
      parameter,
      match: () => false,
      matchAll(values, keys, context) {
        const holds = relation(context.parameter);
        const count = String(values.length);
        return keys.some(key => holds(context.comparator.compare(count, key)));
      },
    },
    {
      name: 'value',
      parameter,
      needs: 'ordering',
      match: (value, key, context) => relation(context.parameter)(context.comparator.compare(value, key as string)),
    },
  ],
});
