import type { Command } from './command.ts';
import { authenticate } from './commands/authenticate.ts';
import {
  checkscript,
  deletescript,
  getscript,
  havespace,
  listscripts,
  putscript,
  renamescript,
  setactive,
} from './commands/script-commands.ts';
import { capability, logout, noop, starttls, unauthenticate } from './commands/session-commands.ts';

export const commandTable: ReadonlyMap<string, Command> = new Map(
  [
    authenticate,
    capability,
    checkscript,
    deletescript,
    getscript,
    havespace,
    listscripts,
    logout,
    noop,
    putscript,
    renamescript,
    setactive,
    starttls,
    unauthenticate,
  ].map(command => [command.name, command]),
);
