// EMAILID (RFC 8474 §5.1): names the content of a message, so that copies have the same one and other programs cannot
// break it. Made when first asked for, and kept in the index.
import { createHash } from 'node:crypto';
import { ropeChunks } from '../mail/rope.ts';
import type { Mailbox, Uid } from './mailbox.ts';

/** Undefined where the message is gone. */
export const emailId = (mailbox: Pick<Mailbox, 'cached'>, uid: Uid): Promise<string | undefined> =>
  mailbox.cached(uid, 'email-id-1', async ({ rope }) => {
    const hash = createHash('sha256');
    for await (const chunk of ropeChunks(rope)) hash.update(chunk);
    return `M${hash.digest('base64url').slice(0, 32)}`;
  });
