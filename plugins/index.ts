// The built-in plugins by the name that a chain entry gives. An explicit table: nothing is scanned, nothing registers
// itself, and a plugin that stands here runs through the compliance suite.
import type { Plugin } from '../core/plugin/index.ts';
import { aliases } from './aliases/index.ts';
import { arcSeal } from './arc-seal/index.ts';
import { attachments } from './attachments/index.ts';
import { auth } from './auth/index.ts';
import { banner } from './banner/index.ts';
import { clamav } from './clamav/index.ts';
import { dkimSign } from './dkim-sign/index.ts';
import { dnsbl } from './dnsbl/index.ts';
import { exampleHeaderStamp } from './example-header-stamp/index.ts';
import { exampleHttpPolicy } from './example-http-policy/index.ts';
import { examplePerRecipient } from './example-per-recipient/index.ts';
import { greylist } from './greylist/index.ts';
import { headers } from './headers/index.ts';
import { helo } from './helo/index.ts';
import { limits } from './limits/index.ts';
import { mailAuth } from './mail-auth/index.ts';
import { milter } from './milter/index.ts';
import { rateLimit } from './rate-limit/index.ts';
import { recipients } from './recipients/index.ts';
import { relayPolicy } from './relay-policy/index.ts';
import { reverseDns } from './reverse-dns/index.ts';
import { rewrite } from './rewrite/index.ts';
import { rfc822 } from './rfc822/index.ts';
import { rspamd } from './rspamd/index.ts';
import { score } from './score/index.ts';
import { senderLogin } from './sender-login/index.ts';
import { sieve } from './sieve/index.ts';
import { spamassassin } from './spamassassin/index.ts';
import { srs } from './srs/index.ts';
import { uribl } from './uribl/index.ts';

export const plugins: Readonly<Record<string, Plugin<unknown>>> = {
  aliases,
  'arc-seal': arcSeal,
  attachments,
  auth,
  banner,
  clamav,
  'dkim-sign': dkimSign,
  dnsbl,
  'example-header-stamp': exampleHeaderStamp,
  'example-http-policy': exampleHttpPolicy,
  'example-per-recipient': examplePerRecipient,
  headers,
  limits,
  'mail-auth': mailAuth,
  milter,
  'relay-policy': relayPolicy,
  recipients,
  rewrite,
  rfc822,
  rspamd,
  score,
  'sender-login': senderLogin,
  sieve,
  spamassassin,
  srs,
  greylist,
  helo,
  'rate-limit': rateLimit,
  'reverse-dns': reverseDns,
  uribl,
};
