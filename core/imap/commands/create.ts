import { mailboxId, type SpecialUse, specialUses } from '../../mailstore/mailbox.ts';
import { command } from '../command.ts';
import { delimiter, mailboxName } from '../mailbox-name.ts';
import { bad, no, ok, Refusal } from '../response.ts';
import type { Lexer } from '../wire/lexer.ts';

/** RFC 3501 §6.3.3; `(USE (\Sent))` as in RFC 6154 §3. */
export const create = command({
  name: 'CREATE',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    const given = mailboxName(lexer.astring());
    // "Foo/" says that names below it will follow; the mailbox itself is made as well, as the RFC allows.
    return { name: given.endsWith(delimiter) ? given.slice(0, -1) : given, specialUse: parseUse(lexer) };
  },
  async run(at, { name, specialUse }) {
    if (name.toUpperCase() === 'INBOX') return no('INBOX exists already', 'ALREADYEXISTS');
    await at.mail.create(name, specialUse.length > 0 ? { specialUse } : {});
    // RFC 8474 §4.1.
    const { uidValidity } = await at.mail.status(name);
    return ok('Create completed', `MAILBOXID (${mailboxId(uidValidity)})`);
  },
});

function parseUse(lexer: Lexer): readonly SpecialUse[] {
  if (!lexer.trySp()) return [];
  lexer.char('(');
  if (!lexer.tryKeyword('USE')) throw new Refusal(bad('Unknown create parameter'));
  lexer.sp();
  const uses = lexer.list(() => {
    const wanted = lexer.flag().toLowerCase();
    const use = specialUses.find(known => known.toLowerCase() === wanted);
    // RFC 6154 §3, §6.
    if (!use || use === '\\All' || use === '\\Flagged')
      throw new Refusal(no('Special use is not supported', 'USEATTR'));
    return use;
  });
  lexer.char(')');
  return uses;
}
