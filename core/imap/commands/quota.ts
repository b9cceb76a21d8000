import type { Quota } from '../../mailstore/mailbox.ts';
import { type Authenticated, command } from '../command.ts';
import { encodeMailbox, parseMailbox } from '../mailbox-name.ts';
import { no, ok } from '../response.ts';

const root = '"User quota"';
const rootName = 'User quota';

/** RFC 9208 §4.2.2. */
export const getQuotaRoot = command({
  name: 'GETQUOTAROOT',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    return parseMailbox(lexer);
  },
  async run(at, mailbox) {
    await at.mail.status(mailbox);
    at.out.untagged(`QUOTAROOT ${encodeMailbox(mailbox)} ${root}`);
    writeQuota(at, await at.mail.quota());
    return ok('Getquotaroot completed');
  },
});

/** RFC 9208 §4.2.1. */
export const getQuota = command({
  name: 'GETQUOTA',
  state: 'authenticated',
  parse(lexer) {
    lexer.sp();
    return lexer.astring().toString('utf8');
  },
  async run(at, name) {
    if (name !== rootName) return no('Quota root does not exist', 'NONEXISTENT');
    writeQuota(at, await at.mail.quota());
    return ok('Getquota completed');
  },
});

/** RFC 9208 §5.1: STORAGE counts units of 1024 octets; a root without limits has an empty list. */
function writeQuota({ out }: Authenticated, { usedBytes, limitBytes }: Quota): void {
  const storage =
    limitBytes === undefined ? '' : `STORAGE ${Math.ceil(usedBytes / 1024)} ${Math.floor(limitBytes / 1024)}`;
  out.untagged(`QUOTA ${root} (${storage})`);
}
