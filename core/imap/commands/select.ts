import { flagBits, mailboxId } from '../../mailstore/mailbox.ts';
import { type Authenticated, command } from '../command.ts';
import { systemFlags } from '../flags.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { bad, type Ending, ok } from '../response.ts';
import { parseResync, type Resync, writeResync } from '../resync.ts';
import { encodeFlagsLine } from '../updates.ts';
import { View } from '../view.ts';
import type { Lexer } from '../wire/lexer.ts';
import { WireError } from '../wire/wire-error.ts';

/** RFC 3501 §6.3.1 and §6.3.2, parameters as in RFC 4466 §2.1. */
export const select = selectCommand('SELECT', false);
export const examine = selectCommand('EXAMINE', true);

interface Parameters {
  readonly condstore: boolean;
  readonly resync: Resync | undefined;
}

function selectCommand(name: string, readOnly: boolean) {
  return command({
    name,
    state: 'authenticated',
    updates: 'none',
    parse(lexer) {
      lexer.sp();
      return { mailbox: parseMailbox(lexer), parameters: parseParameters(lexer) };
    },
    run(at, { mailbox, parameters }) {
      // RFC 7162 §3.2.3; the mailbox selected before stays so.
      if (parameters.resync && !at.enabled.has('QRESYNC')) return bad('Enable QRESYNC first');
      return enter(at, mailbox, readOnly, parameters);
    },
  });
}

/** `(CONDSTORE)`, RFC 7162 §3.1.8, and `(QRESYNC (…))`, §3.2.5. */
function parseParameters(lexer: Lexer): Parameters {
  let condstore = false;
  let resync: Resync | undefined;
  if (!lexer.trySp()) return { condstore, resync };
  lexer.list(() => {
    const name = lexer.keyword();
    if (name === 'CONDSTORE') condstore = true;
    else if (name === 'QRESYNC') {
      lexer.sp();
      resync = parseResync(lexer);
    } else throw new WireError('Unknown select parameter');
  });
  return { condstore, resync };
}

async function enter(at: Authenticated, name: string, readOnly: boolean, parameters: Parameters): Promise<Ending> {
  // RFC 7162 §3.2.11: what follows is about another mailbox.
  if (at.selected) at.out.untagged('OK [CLOSED] Previous mailbox is closed');
  // RFC 3501 §6.3.1: the old mailbox is left even if the new one cannot be entered.
  await at.select(undefined);
  const mailbox = await at.mail.open(name, { readOnly });
  let view: View;
  try {
    await mailbox.sync();
    view = new View(mailbox);
  } catch (error) {
    await mailbox.close();
    throw error;
  }
  if (parameters.condstore) at.enable('CONDSTORE');
  await at.select(view);
  describe(at, view);
  if (parameters.resync) writeResync(at.out, view, parameters.resync);
  return readOnly ? ok('Examine completed', 'READ-ONLY') : ok('Select completed', 'READ-WRITE');
}

function describe({ out }: Authenticated, view: View): void {
  const { mailbox } = view;
  out.untagged(encodeFlagsLine(view));
  out.untagged(`OK [PERMANENTFLAGS (${permanentFlags(view).join(' ')})] Flags permitted`);
  out.untagged(`${view.count} EXISTS`);
  out.untagged(`${view.recent} RECENT`);
  const unseen = view.firstWithout(flagBits['\\Seen']);
  if (unseen !== undefined) out.untagged(`OK [UNSEEN ${unseen}] First unseen`);
  out.untagged(`OK [UIDVALIDITY ${mailbox.uidValidity}] UIDs valid`);
  // RFC 8474 §4.2.
  out.untagged(`OK [MAILBOXID (${mailboxId(mailbox.uidValidity)})] Mailbox id`);
  out.untagged(`OK [UIDNEXT ${mailbox.uidNext}] Predicted next UID`);
  out.untagged(`OK [HIGHESTMODSEQ ${mailbox.highestModseq}] Highest`);
}

function permanentFlags({ mailbox }: View): readonly string[] {
  if (mailbox.readOnly) return [];
  // RFC 3501 §7.1: `\*` only while further keywords can be made.
  return [...systemFlags, ...mailbox.keywords, ...(mailbox.keywordsOpen ? ['\\*'] : [])];
}
