// From a line to its command: reads the flags of the table in `commands.ts`, so that a handler never asks whether it may
// run.
import { hasControls, splitCommand } from './command-line.ts';
import { commands } from './commands.ts';
import type { Done } from './input.ts';
import type { SmtpSession } from './session.ts';

export function dispatch(session: SmtpSession, line: Buffer): Done {
  const raw = line.toString('latin1');
  if (session.continuation) return session.continuation(raw);
  if (hasControls(raw)) return session.error(500, '5.5.2', 'Syntax error: control character');
  const { verb, args } = splitCommand(raw);
  const { listener, limits } = session.context;
  const lmtp = listener.role === 'lmtp';
  const command = commands.get(verb);
  if (!command || (command.only && command.only !== (lmtp ? 'lmtp' : 'smtp'))) return unknown(session, verb);
  if (command.moves === false && ++session.idleCommands > limits.idleCommands)
    return session.drop('4.7.0', 'Too many commands without a message');
  if (!command.beforeTls && tlsMissing(session))
    // RFC 3207 §4
    return session.error(530, '5.7.0', 'Must issue a STARTTLS command first');
  if (command.afterHello && !session.greetedBy)
    return session.error(503, '5.5.1', `Send ${lmtp ? 'LHLO' : 'EHLO'} first`);
  // RFC 6409 §4.3, RFC 4954 §6
  if (command.afterAuth && listener.role === 'submission' && !session.identity)
    return session.error(530, '5.7.0', 'Authentication required');
  return command.run(session, args);
}

function tlsMissing({ context, facts }: SmtpSession): boolean {
  const { role, allowPlaintextAuth } = context.listener;
  return role === 'submission' && !facts.tls && !allowPlaintextAuth;
}

function unknown(session: SmtpSession, verb: string): void {
  // A web page or another protocol was pointed at this port: what follows are not commands.
  if (/^(?:GET|POST|PUT|HEAD|OPTIONS|CONNECT|DELETE|TRACE|PATCH)$/.test(verb) && !session.greetedBy) {
    session.reply(554, '5.5.1', 'Protocol error');
    session.close('not SMTP');
    return;
  }
  if (++session.unknownCommands > session.context.limits.unknownCommands)
    session.drop('4.7.0', 'Too many unknown commands');
  else session.error(500, '5.5.2', 'Command not recognized');
}
