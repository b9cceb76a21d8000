import type { Command } from './command.ts';
import { auth } from './commands/auth.ts';
import { capa } from './commands/capa.ts';
import { dele, quit, rset } from './commands/delete.ts';
import { list, stat, uidl } from './commands/listing.ts';
import { retr, top } from './commands/retrieve.ts';
import { lang, noop, utf8 } from './commands/small.ts';
import { stls } from './commands/stls.ts';
import { pass, user } from './commands/user.ts';

/** All of POP3 but APOP, which needs passwords stored in plain text. */
export const commandTable: ReadonlyMap<string, Command> = new Map(
  [auth, capa, dele, lang, list, noop, pass, quit, retr, rset, stat, stls, top, uidl, user, utf8].map(command => [
    command.name,
    command,
  ]),
);
