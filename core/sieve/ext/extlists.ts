// Lists kept elsewhere, RFC 6134: match type `:list`, `redirect :list`, test valid_ext_list.
import type { Call, Complain } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';

// RFC 6134 §2.3: names are URIs, e.g. tags (RFC 4151); `:` at the beginning stands for `urn:ietf:params:sieve:`.
function checkList(name: string, complain: Complain): void {
  if (!/^(?::[a-z][^\s]*|[a-z][a-z0-9+.-]*:[^\s]+)$/i.test(name)) complain(`${quote(name)} is no name of a list`);
}

/** The short form of a name, which is what hosts know. */
const listName = (name: string): string => name.replace(/^urn:ietf:params:sieve:(?=.)/i, ':');

async function contains(call: Call, list: string, value: string): Promise<boolean> {
  const { lists } = call.run.host;
  if (!lists || !(await lists.valid(list))) throw call.error(`List ${quote(list)} is not available`);
  return lists.contains(list, value);
}

export const extlists = defineExtension({
  name: 'extlists',
  matchTypes: [
    {
      // RFC 6134 §2.2
      name: 'list',
      checkKey: checkList,
      async match(value, key, context) {
        context.run.spend(10);
        const found = await context.run.wait(contains(context.call, listName(key as string), value));
        // RFC 6134 §2.2: `${0}` is the value that was found.
        if (found && context.run.captures) context.run.captures = [value];
        return found;
      },
    },
  ],
  tags: [
    {
      // RFC 6134 §2.4
      name: 'list',
      on: ['redirect'],
      unchecked: ['address'],
      validate(word) {
        const name = word.string('address');
        if (name !== undefined) checkList(name, message => word.error(message, 'address'));
      },
      async apply(entry, call) {
        const list = listName(call.string('address'));
        const { lists } = call.run.host;
        if (!lists || !(await call.run.wait(lists.valid(list))))
          throw call.error(`List ${quote(list)} is not available`);
        delete entry.arguments['address'];
        entry.arguments['list'] = list;
      },
    },
  ],
  tests: [
    {
      // RFC 6134 §2.7
      name: 'valid_ext_list',
      arguments: [{ name: 'lists', type: 'string-list' }],
      async run(call) {
        const names = call.strings('lists').map(listName);
        const { lists } = call.run.host;
        call.looked(names);
        for (const name of names) if (!lists || !(await call.run.wait(lists.valid(name)))) return false;
        return true;
      },
    },
  ],
});
