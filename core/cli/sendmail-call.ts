// Is this call one of sendmail(1)? By its name (a link `sendmail`, `mailq` or `newaliases`) or by the command of that
// name, before which only --config may stand. Its options must not reach the parser of the other commands.
import path from 'node:path';
import type { SendmailOptions } from './sendmail-options.ts';

export interface SendmailCall {
  readonly args: readonly string[];
  readonly mode: SendmailOptions['mode'];
  readonly configFile?: string;
}

const modes: Readonly<Record<string, SendmailOptions['mode']>> = {
  sendmail: 'send',
  mailq: 'queue',
  newaliases: 'aliases',
};

/** `argv` as the process has it: the interpreter, the name of the program as it was called, the arguments. */
export function sendmailCall(argv: readonly string[]): SendmailCall | undefined {
  const [, program = '', ...args] = argv;
  const byName = modes[path.basename(program)];
  if (byName) return { args, mode: byName };
  let configFile: string | undefined;
  let at = 0;
  for (; at < args.length; at++) {
    const word = args[at] as string;
    const joined = /^--config=(.*)$/.exec(word)?.[1];
    if (joined !== undefined) configFile = joined;
    else if (word === '-c' || word === '--config') configFile = args[++at];
    else break;
  }
  const byCommand = modes[args[at] ?? ''];
  if (!byCommand) return undefined;
  const rest = args.slice(at + 1);
  if (rest.length === 1 && (rest[0] === '--help' || rest[0] === '-h')) return undefined;
  return { args: rest, mode: byCommand, ...(configFile === undefined ? {} : { configFile }) };
}
