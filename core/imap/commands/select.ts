import { flagBits } from '../../mailstore/mailbox.ts';
import { type Authenticated, command } from '../command.ts';
import { systemFlags } from '../flags.ts';
import { parseMailbox } from '../mailbox-name.ts';
import { bad, type Ending, ok, Refusal } from '../response.ts';
import { encodeFlagsLine } from '../updates.ts';
import { View } from '../view.ts';
import type { Lexer } from '../wire/lexer.ts';

/** RFC 3501 §6.3.1 and §6.3.2, parameters as in RFC 4466 §2.1. */
export const select = selectCommand('SELECT', false);
export const examine = selectCommand('EXAMINE', true);

function selectCommand(name: string, readOnly: boolean) {
  return command({
    name,
    state: 'authenticated',
    updates: 'none',
    parse(lexer) {
      lexer.sp();
      return { mailbox: parseMailbox(lexer), condstore: parseParameters(lexer) };
    },
    run: (at, { mailbox, condstore }) => enter(at, mailbox, readOnly, condstore),
  });
}

/** `(CONDSTORE)`, RFC 7162 §3.1.8. */
function parseParameters(lexer: Lexer): boolean {
  if (!lexer.trySp()) return false;
  const names = lexer.list(() => lexer.keyword());
  const unknown = names.find(name => name !== 'CONDSTORE');
  if (unknown !== undefined) throw new Refusal(bad('Unknown select parameter'));
  return names.length > 0;
}

async function enter(at: Authenticated, name: string, readOnly: boolean, condstore: boolean): Promise<Ending> {
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
  if (condstore) at.enable('CONDSTORE');
  await at.select(view);
  describe(at, view);
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
  out.untagged(`OK [UIDNEXT ${mailbox.uidNext}] Predicted next UID`);
  out.untagged(`OK [HIGHESTMODSEQ ${mailbox.highestModseq}] Highest`);
}

function permanentFlags({ mailbox }: View): readonly string[] {
  if (mailbox.readOnly) return [];
  // RFC 3501 §7.1: `\\*` only while further keywords can be made.
  return [...systemFlags, ...mailbox.keywords, ...(mailbox.keywordsOpen ? ['\\*'] : [])];
}
