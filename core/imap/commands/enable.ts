import { type Authenticated, command, type Enabled } from '../command.ts';
import { ok } from '../response.ts';
import type { Lexer } from '../wire/lexer.ts';

const known: ReadonlySet<string> = new Set<Enabled>(['CONDSTORE', 'QRESYNC']);
const isKnown = (name: string): name is Enabled => known.has(name);

/** RFC 5161 §3.1: unknown names are ignored; only what was switched on now is listed. */
export const enable = command({
  name: 'ENABLE',
  state: 'authenticated',
  parse(lexer: Lexer) {
    const names: string[] = [];
    lexer.sp();
    do names.push(lexer.keyword());
    while (lexer.trySp());
    return names;
  },
  run(at: Authenticated, names) {
    const fresh = names.filter(isKnown).filter(name => !at.enabled.has(name));
    for (const name of fresh) at.enable(name);
    at.out.untagged(`ENABLED${fresh.map(name => ` ${name}`).join('')}`);
    return ok('Enable completed');
  },
});
