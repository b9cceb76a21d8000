// The chain with every filter in it, as an administrator would have it, for runs that show that nothing falls over. Engines
// are named where they run.
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';

export interface ChainParts {
  /** Absolute path of a folder for keys, tables and scripts; they are written there. */
  readonly folder: string;
  readonly clamd?: string;
  readonly spamd?: string;
  readonly rspamd?: string;
  readonly milter?: string;
}

/** Zones on the harness' DNS server: a list of addresses and one of domains, which list little. */
export const chainZones = {
  '2.0.0.127.bl.test': { A: ['127.0.0.2'] },
  '64.0.100.198.bl.test': { A: ['127.0.0.2'] },
  'test.uri.test': { A: ['127.0.1.2'] },
  '2.0.0.127.uri.test': { A: ['127.0.1.2'] },
  'insuranceiq.com.uri.test': { A: ['127.0.1.2'] },
  'spamassassin.taint.org': { TXT: ['v=spf1 -all'], A: ['192.0.2.9'] },
} as const;

const everybodysRules = `require ["fileinto", "mailbox", "imap4flags", "variables", "body", "mime", "relational",
  "comparator-i;ascii-numeric", "spamtest", "date", "editheader", "duplicate"];
if header :contains "X-Spam-Flag" "YES" { addflag "$Junk"; fileinto :create "Junk"; stop; }
if header :matches "List-Id" "*<*>*" { set :lower "list" "\${2}"; fileinto :create "Lists"; stop; }
if anyof (body :text :contains "unsubscribe", header :mime :anychild :contenttype "content-type" "text/html") {
  addflag "\\\\Flagged";
}
if currentdate :value "ge" "year" "2000" { addheader "X-Sorted" "yes"; }
`;

/** Entries of `chain:` in YAML. What would defer a first attempt, or a burst, only looks. */
export function wholeChain({ folder, clamd, spamd, rspamd, milter }: ChainParts): string {
  const file = (name: string, content: string | Buffer): string => {
    writeFileSync(path.join(folder, name), content, { mode: 0o600 });
    return path.join(folder, name);
  };
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const key = file('key.pem', privateKey);
  const signer = `domain: example.org, selector: sel, key: ${key}`;
  const engine = (name: string, host: string | undefined, options: string): string =>
    host === undefined ? '' : `  - ${name}: { hosts: ['${host}'], onError: continue, ${options} }\n`;
  return `
  - auth
  - limits
  - dnsbl: { lists: [{ zone: bl.test }] }
  - reverse-dns
  - helo: { reject: [] }
  - rate-limit: { mode: observe, limits: [{ per: address, messages: 60, window: 1m }] }
  - sender-login
  - relay-policy
  - rewrite: { envelopeRecipient: ['inline:{ robert@example.org=bob@example.org }'], masquerade: { domains: [example.org] } }
  - aliases: { aliases: [${file('aliases', 'staff: bob\n')}], postmaster: bob@example.org }
  - srs: { domain: example.org, secrets: [{ file: ${file('srs.secret', 'a secret of the tests')} }] }
  - recipients
  - rfc822
  - mail-auth
  - greylist: { mode: observe }
  - attachments: { rules: [{ is: [executable, script, double-extension], action: quarantine }, { is: [limit, unreadable], action: tag }] }
  - uribl: { lists: [{ zone: uri.test, codes: { 127.0.1.2: 1 } }] }
${engine('clamav', clamd, 'timeout: 60s')}${engine(
  'spamassassin',
  spamd,
  'thresholds: { junk: 5, reject: 15 }, hostTimeout: 60s, timeout: 90s',
)}${engine('rspamd', rspamd, 'thresholds: { junk: 6, reject: 15 }, hostTimeout: 60s, timeout: 90s')}${engine(
  'milter',
  milter,
  'timeout: 60s',
)}  - score: { tag: 5, quarantine: 10, reject: 20 }
  - banner: { text: 'From outside: {sender}', subject: '[EXTERNAL]' }
  - headers: { rules: [{ add: { X-Checked: 'yes' } }] }
  - arc-seal: { ${signer}, when: always }
  - dkim-sign: { keys: [{ ${signer} }] }
  - sieve: { before: [${file('everybody.sieve', everybodysRules)}] }
`;
}
