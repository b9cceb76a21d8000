// The chain with every filter in it, as an administrator would have it, for runs that show that nothing falls over. Engines
// are named where they run.

export interface Engines {
  readonly clamd?: string;
  readonly spamd?: string;
  readonly rspamd?: string;
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

/** Entries of `chain:` in YAML. What would defer a first attempt, or a burst, only looks. */
export const wholeChain = ({ clamd, spamd, rspamd }: Engines = {}): string => `
  - limits
  - dnsbl: { lists: [{ zone: bl.test }] }
  - reverse-dns
  - helo: { reject: [] }
  - rate-limit: { mode: observe, limits: [{ per: address, messages: 60, window: 1m }] }
  - relay-policy
  - recipients
  - rfc822
  - mail-auth
  - greylist: { mode: observe }
  - attachments: { rules: [{ is: [executable, script, double-extension], action: quarantine }, { is: [limit, unreadable], action: tag }] }
  - uribl: { lists: [{ zone: uri.test, codes: { 127.0.1.2: 1 } }] }
${clamd === undefined ? '' : `  - clamav: { hosts: ['${clamd}'], onError: continue, timeout: 60s }\n`}${
  spamd === undefined
    ? ''
    : `  - spamassassin: { hosts: ['${spamd}'], thresholds: { junk: 5, reject: 15 }, onError: continue, hostTimeout: 60s, timeout: 90s }\n`
}${
  rspamd === undefined
    ? ''
    : `  - rspamd: { hosts: ['${rspamd}'], thresholds: { junk: 6, reject: 15 }, onError: continue, hostTimeout: 60s, timeout: 90s }\n`
}  - score: { tag: 5, quarantine: 15 }
  - headers: { rules: [{ add: { X-Checked: 'yes' } }] }
`;
