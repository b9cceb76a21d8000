// The whole configuration file as one schema. It yields the TypeScript types, the validation, `config/REFERENCE.md` and
// `config/schema.json`. Every key has one sentence for the reference, and a default or is required.
import { fitsSocket, longestSocketPath } from '../lib/socket-path.ts';
import { byteSize, duration, secret, z } from './schema.ts';

const portNumber = () => z.number().int().min(0).max(65535);
const network = () =>
  z
    .string()
    .regex(/^[0-9a-fA-F:.]+(\/\d{1,3})?$/, 'Expected an address or a network such as 192.0.2.0/24 or 2001:db8::/32');
const domainName = () =>
  z
    .string()
    .regex(/^(?!-)[^\s@/]+$/, 'Expected a domain name')
    .transform(name => name.toLowerCase());
const filePath = () => z.string().min(1).meta({ kind: 'path' });

const limits = z.strictObject({
  connections: z.number().int().positive().default(1000).describe('Most simultaneous connections to this listener.'),
  connectionsPerAddress: z
    .number()
    .int()
    .positive()
    .default(100)
    .describe('Most simultaneous connections from one IPv4 address or IPv6 /64 network.'),
  connectionRatePerMinute: z
    .number()
    .int()
    .nonnegative()
    .default(0)
    .describe('Most new connections a minute from one address; 0 = no limit.'),
  idleTimeout: duration()
    .prefault('5m')
    .describe(
      'A client that sends nothing for so long is disconnected (RFC 5321 §4.5.3.2.7; IMAP: at least 30 min by RFC 3501 §5.4).',
    ),
  sessionLifetime: duration().prefault('2h').describe('Longest life of an SMTP session.'),
  messagesPerSession: z
    .number()
    .int()
    .positive()
    .default(10000)
    .describe('Most messages in one SMTP session; then 421.'),
  recipients: z
    .number()
    .int()
    .min(100)
    .default(1000)
    .describe('Most recipients of one message (RFC 5321 §4.5.3.1.8: at least 100); more get 452 4.5.3.'),
  errors: z
    .number()
    .int()
    .positive()
    .default(20)
    .describe('After so many refused commands the session is closed with 421.'),
  authFailures: z.number().int().positive().default(3).describe('Failed logins of one connection; then it is closed.'),
  minDataRate: byteSize()
    .prefault(100)
    .describe('Bytes a second that message data must bring on average after the first minute; 0 = any.'),
  lineLength: byteSize()
    .prefault('64KiB')
    .describe(
      'Longest line in message data; a longer one is refused with 550 5.6.0. RFC 5321 §4.5.3.1.6 asks for 1000, mail in the wild has longer ones.',
    ),
});

const listener = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z][a-z0-9-]*$/)
    .describe('Name in log and trace.'),
  role: z
    .enum(['smtp', 'submission', 'lmtp', 'imap', 'pop3', 'managesieve'])
    .describe(
      'Protocol and policy: `smtp` relays in without AUTH, `submission` demands TLS and AUTH, `lmtp` takes mail from a local MTA, `imap`, `pop3` and `managesieve` serve mailboxes and rules.',
    ),
  address: z
    .string()
    .refine(
      text => !text.startsWith('/') || fitsSocket(text),
      `The path of a socket has at most ${longestSocketPath} bytes`,
    )
    .default('127.0.0.1')
    .describe('Address to bind; `0.0.0.0` or `::` for all; a path that starts with `/`: a unix socket.'),
  port: portNumber().describe('Port to bind; 0 takes a free one.'),
  tls: z
    .enum(['none', 'starttls', 'implicit'])
    .default('starttls')
    .describe('`starttls` offers the upgrade (STLS for POP3), `implicit` begins with TLS.'),
  allowPlaintextAuth: z
    .boolean()
    .default(false)
    .describe('Let passwords cross an unencrypted connection. Only ever sensible on loopback.'),
  banner: z.string().max(200).optional().describe('Text after the host name in the greeting.'),
  greetDelay: duration()
    .prefault('0s')
    .describe('Wait so long before the SMTP greeting; who talks earlier is refused (early-talker check).'),
  lineEnds: z
    .enum(['refuse', 'normalise'])
    .default('refuse')
    .describe(
      'A bare CR or LF in message data is refused (550 5.6.11), or turned into CRLF before any plugin sees it.',
    ),
  lookupReverseName: z
    .boolean()
    .default(false)
    .describe('Look up and verify the reverse name of each SMTP client for the Received field.'),
  proxyProtocol: z
    .array(network())
    .default([])
    .describe('Networks of load balancers that begin each connection with a PROXY v1 or v2 header.'),
  xclient: z.array(network()).default([]).describe('Networks that may tell the real client by XCLIENT.'),
  chunking: z.boolean().default(true).describe('Offer CHUNKING (RFC 3030); Microsoft 365 sends so.'),
  etrn: z
    .array(network())
    .default([])
    .describe('Clients that may start the delivery of a waiting domain by ETRN (RFC 1985).'),
  prdr: z
    .boolean()
    .default(false)
    .describe('Offer PRDR: one reply per recipient after the data, for clients that ask for it.'),
  recipientsTogether: z
    .enum(['all', 'domain', 'one'])
    .default('all')
    .describe(
      'Whose mail may come in one message, where a single reply speaks for all of them (no PRDR, no LMTP). `all`: what one recipient refuses and another takes is told by a report. `domain`, `one`: recipients of another domain, or any other, get 452 4.5.3 and the client sends them a message of their own, whose reply is theirs. Clients that logged in are not asked that.',
    ),
  limits: limits.prefault({}).describe('Limits of this listener.'),
});

const recipientsElsewhere = z.strictObject({
  list: z
    .array(z.string().min(1))
    .default([])
    .describe('Recipients: local parts or addresses; `@example.org` stands for all of a domain.'),
  maps: z
    .array(filePath())
    .default([])
    .describe('Files in the syntax of Postfix maps (`relay_recipient_maps`), read again when they change.'),
  directory: z.string().optional().describe('Name of an entry of `directories` that knows the recipients.'),
  callout: z
    .strictObject({
      positive: duration()
        .prefault('7d')
        .describe('An address that the next hop took is asked about again, in the background, after so long.'),
      negative: duration().prefault('1h').describe('One that it refused is asked about again after so long.'),
      stale: duration()
        .prefault('31d')
        .describe('While the next hop cannot be asked, what it took stays good for so long.'),
      budget: duration()
        .prefault('8s')
        .describe('Longest wait of a client; the question goes on without it. Exchange delays each refusal by 5 s.'),
      concurrency: z.number().int().positive().default(5).describe('Most questions at once.'),
      acceptsAll: z
        .enum(['accept', 'defer'])
        .default('accept')
        .describe('What to do where the next hop takes even made-up addresses, so that asking it tells nothing.'),
    })
    .optional()
    .describe('Ask the next hop (RCPT from the null sender) about what no other source knows; `{}` for the defaults.'),
  unavailable: z
    .enum(['defer', 'accept'])
    .default('defer')
    .describe('Where no source can tell (directory never read, next hop down and address new): 451, or take it.'),
});

const directory = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][\w.-]*$/)
    .describe('Name for `domains[].recipients.directory` and for status and log.'),
  urls: z
    .array(z.string().regex(/^ldaps?:\/\/[^/\s]+\/?$/, 'Expected ldap://host[:port] or ldaps://host[:port]'))
    .default([])
    .describe(
      'Servers, in order of preference: `ldaps://dc1.corp.example`; Active Directory: the domain controllers. Or name a `domain`.',
    ),
  domain: domainName()
    .optional()
    .describe(
      'In place of `urls`: the domain whose SRV records name the servers, looked up at each connect: `_ldap._tcp.dc._msdcs.DOMAIN` (Active Directory), else `_ldap._tcp.DOMAIN`. They are asked by `ldaps://`, with `startTls` on the port of the record. Hosts outside the domain count only where DNSSEC vouches for the records.',
    ),
  ldapsPort: z
    .number()
    .int()
    .min(1)
    .max(65535)
    .default(636)
    .describe('Port for `ldaps://` to the servers of `domain`; SRV records tell only that of `ldap://`.'),
  startTls: z.boolean().default(false).describe('Encrypt `ldap://` connections by StartTLS.'),
  caFile: filePath()
    .optional()
    .describe('PEM file of the authority that signed the certificates of the servers; default: those Node trusts.'),
  bindDn: z
    .string()
    .optional()
    .describe('Who asks: a DN, or `user@corp.example` for Active Directory; absent = anonymous. Needs only to read.'),
  password: secret().optional().describe('Password of `bindDn`, by reference.'),
  base: z.string().optional().describe('Where to search; default: what the server calls its default naming context.'),
  filter: z
    .string()
    .regex(/^\(.*\)$/s, 'Expected a filter in parentheses (RFC 4515)')
    .default('(proxyAddresses=*)')
    .describe('Which objects are recipients; the default finds users, groups, contacts and public folders.'),
  attributes: z
    .array(z.string().regex(/^[A-Za-z][\w;-]*$/, 'Expected an attribute name'))
    .min(1)
    .default(['proxyAddresses'])
    .describe('Attributes that hold addresses: `smtp:user@domain` or plain; for other directories `mail`, say.'),
  interval: duration().prefault('5m').describe('How often changes are read (`uSNChanged`).'),
  resync: duration()
    .prefault('6h')
    .describe(
      'How often everything is read: finds deletions where the server does not show them (Active Directory: may `bindDn` list `CN=Deleted Objects`?); without `uSNChanged` it is the only way to read.',
    ),
  timeout: duration().prefault('30s').describe('Longest wait for one answer of a server.'),
  pageSize: z.number().int().min(1).max(1000).default(500).describe('Entries of one page (RFC 2696).'),
});

const domain = z.strictObject({
  name: domainName().describe('Domain name; a U-label is stored as A-label.'),
  kind: z
    .enum(['local', 'virtual', 'relay'])
    .default('local')
    .describe(
      '`local`: mailboxes here, all local domains share their user names where an account has no domain; `virtual`: mailboxes and aliases of its own; `relay`: recipients live on a next hop.',
    ),
  recipients: recipientsElsewhere
    .optional()
    .describe(
      'For `relay` domains: who the recipients are, so that unknown ones are refused here. The `recipients` plugin asks. Absent: the next hop alone decides.',
    ),
});

const tlsFiles = z.strictObject({
  certificate: filePath().describe('PEM file with the certificate and its chain.'),
  key: filePath().describe('PEM file with the private key.'),
});

const nextHop = z.strictObject({
  domain: z
    .string()
    .default('*')
    .describe('Recipient domain, `.example.org` for its subdomains, a full address, or `*` for every other.'),
  hosts: z
    .array(z.string().min(1))
    .default([])
    .describe(
      'Next hops in order of preference: `host`, `host:port`, `[address]:port`, `/path` of a socket. Empty: by MX records.',
    ),
  protocol: z.enum(['smtp', 'lmtp']).default('smtp').describe('Protocol towards the next hop.'),
  tls: z
    .enum(['none', 'opportunistic', 'required', 'verified', 'pinned'])
    .default('opportunistic')
    .describe('Transport security towards the next hop.'),
  fingerprint: z.string().optional().describe('SHA-256 fingerprint of the certificate, for `tls: pinned`.'),
  username: z.string().optional().describe('User name for AUTH at the next hop.'),
  password: secret().optional().describe('Password for AUTH at the next hop, by reference.'),
  implicitTls: z.boolean().default(false).describe('Begin with TLS (port 465) instead of STARTTLS.'),
  clientFacts: z
    .enum(['none', 'xclient', 'xforward'])
    .default('none')
    .describe('Tell the next hop who the real client was; it must trust us.'),
  downgrade: z
    .enum(['convert', 'bounce'])
    .default('convert')
    .describe(
      'What becomes of 8-bit content where the next hop does not offer 8BITMIME: its parts are encoded, which no reader sees but DKIM signatures do not survive, or it bounces. What lies under a multipart/signed, and raw 8-bit bytes in a header, always bounce.',
    ),
  connections: z
    .number()
    .int()
    .positive()
    .optional()
    .describe('Most connections to one of these hosts; default: `queue.concurrency`.'),
  ratePerMinute: z
    .number()
    .positive()
    .optional()
    .describe('Most messages a minute to this destination; all of them then go through the queue.'),
  direct: z
    .boolean()
    .default(true)
    .describe(
      'Deliver while the client waits when the next hop is up (cut-through); otherwise always through the queue.',
    ),
});

const fetchAccount = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z][a-z0-9-]*$/)
    .describe(
      'Name in log, trace and memory. What was fetched is remembered under it: after a change everything is new.',
    ),
  protocol: z.enum(['pop3', 'imap']).describe('Protocol of the provider.'),
  host: z.string().min(1).describe('Server of the provider.'),
  port: portNumber().min(1).optional().describe('Port; default: 995 or 110 for POP3, 993 or 143 for IMAP, by `tls`.'),
  tls: z
    .enum(['implicit', 'starttls', 'none'])
    .default('implicit')
    .describe('`implicit` begins with TLS, `starttls` demands the upgrade; `none` only on loopback.'),
  ca: filePath().optional().describe('PEM file with the authorities that vouch for the server, instead of the usual.'),
  fingerprint: z
    .string()
    .optional()
    .describe('SHA-256 fingerprint of the certificate that alone is trusted, such as a self-signed one.'),
  username: z.string().min(1).describe('Login name at the provider.'),
  password: secret().describe('Password, or access token for `login: xoauth2`; read anew for each poll.'),
  login: z
    .enum(['password', 'xoauth2'])
    .default('password')
    .describe('How to log in. Tokens for `xoauth2` are renewed by a program of yours that writes the file.'),
  mailbox: z.string().default('INBOX').describe('Mailbox to fetch from, for IMAP.'),
  recipient: z.string().describe('Who gets the mail; with `recipientFields` who gets what names nobody of ours.'),
  recipientFields: z
    .array(z.string().regex(/^[\x21-\x39\x3b-\x7e]+$/))
    .default([])
    .describe(
      'Fields into which the provider writes the recipient of a mailbox that many share, such as `[Delivered-To, X-Original-To]`; the first that is there counts.',
    ),
  recipientPrefix: z
    .string()
    .default('')
    .describe('What the provider puts before the local part in these fields, such as `mbox123-`.'),
  skipHops: z
    .number()
    .int()
    .min(0)
    .max(10)
    .default(0)
    .describe(
      'Public hops inside the provider. The client that the filters see is the one below them in the Received fields.',
    ),
  delete: z.boolean().default(true).describe('Remove at the provider what was taken.'),
  keepFor: duration().prefault('0s').describe('How long taken messages stay at the provider before they are removed.'),
  refused: z
    .enum(['leave', 'delete'])
    .default('leave')
    .describe('What the filters refuse stays at the provider, or goes like what was taken. Nobody is told.'),
  interval: duration().prefault('5m').describe('Time between two polls.'),
  maxInterval: duration().prefault('1h').describe('Longest time between polls while they fail.'),
  maxMessages: z.number().int().positive().default(500).describe('Most new messages in one poll.'),
  timeout: duration().prefault('60s').describe('Longest wait for an answer of the server.'),
});

const oauth = z.strictObject({
  introspection: z
    .string()
    .min(1)
    .describe('Token introspection endpoint of the issuer (RFC 7662), `https://…`; `http://` only on loopback.'),
  clientId: z.string().min(1).describe('Who asks: the client that the issuer knows this gateway as.'),
  clientSecret: secret().describe('Its secret, by reference; read anew for each login.'),
  account: z
    .string()
    .min(1)
    .default('email')
    .describe('Member of the answer that names the account, such as `email`, `username` or `preferred_username`.'),
  issuer: z.string().min(1).optional().describe('What `iss` must be; absent = not looked at.'),
  audience: z
    .string()
    .min(1)
    .optional()
    .describe('What `aud` must hold; absent = not looked at, so that a token for any service of the issuer logs in.'),
  scope: z.string().min(1).optional().describe('What `scope` must list; absent = not looked at.'),
  ca: filePath().optional().describe('PEM file with the authorities that vouch for the issuer, instead of the usual.'),
  timeout: duration().prefault('5s').describe('Longest wait for an answer of the issuer.'),
});

const log = z.strictObject({
  level: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
    .default('info')
    .describe('Least severity that is logged.'),
  format: z
    .enum(['auto', 'json', 'pretty'])
    .default('auto')
    .describe('`auto`: readable on a terminal, JSON otherwise.'),
  file: filePath().optional().describe('Append to this file instead of standard output.'),
});

export const gatewayOptions = z.strictObject({
  include: z
    .array(filePath())
    .optional()
    .describe('Further YAML files, relative to this one, whose keys are merged in; a key may stand in one file only.'),
  hostname: z
    .string()
    .regex(/^[^\s]+$/)
    .optional()
    .describe('Fully qualified name in greeting, HELO and trace fields. Default: the name of the machine.'),
  dataDir: filePath()
    .default('../data')
    .describe('Folder for mail, queue, state and certificates, relative to this file.'),
  demo: z
    .boolean()
    .default(false)
    .describe('At the first start, make users alice and bob in the first local domain and print how to send and read.'),
  domains: z.array(domain).default([]).describe('Domains that this gateway accepts mail for.'),
  directories: z
    .array(directory)
    .default([])
    .describe('LDAP directories such as Active Directory, copied here so that a dead one changes no answer.'),
  oauth: oauth
    .optional()
    .describe(
      'Issuer of bearer tokens, with which users log in by OAUTHBEARER and XOAUTH2. Absent: these are not offered.',
    ),
  relayNetworks: z
    .array(network())
    .default([])
    .describe('Clients in these networks may relay to anywhere without AUTH.'),
  recipientDelimiter: z
    .string()
    .max(1)
    .default('+')
    .describe('Separates user and detail (RFC 5233); empty = no subaddresses.'),
  tls: z
    .strictObject({
      certificates: z
        .array(tlsFiles)
        .default([])
        .describe(
          'Certificates, chosen by SNI; the first is the default. Empty: a self-signed one is made in the data folder.',
        ),
    })
    .prefault({})
    .describe('Certificates of all listeners.'),
  listeners: z.array(listener).min(1).describe('Ports to serve, any number.'),
  message: z
    .strictObject({
      maxSize: byteSize().prefault('50MiB').describe('Largest message (SIZE, RFC 1870); larger ones get 552 5.3.4.'),
      spoolAbove: byteSize()
        .prefault('2MiB')
        .describe('Messages above this size are spooled to disk while they arrive; smaller ones stay in memory.'),
      memory: byteSize()
        .prefault('64MiB')
        .describe(
          'What messages above 256 KiB may hold in memory together, per listener; beyond that they are spooled too.',
        ),
      headerSize: byteSize().prefault('256KiB').describe('Largest header section; a larger one is refused.'),
    })
    .prefault({})
    .describe('Sizes of messages.'),
  chain: z
    .array(
      z.union([z.string().min(1), z.record(z.string().min(1), z.union([z.record(z.string(), z.unknown()), z.null()]))]),
    )
    .describe(
      'Plugins in the order in which they run. An entry is a name, or a name with options; `timeout`, `onError` (`defer` or `continue`), `mode` (`enforce` or `observe`) and `plugin` (a path or an npm name) may stand beside the plugin’s own options.',
    ),
  routes: z
    .array(nextHop)
    .default([])
    .describe('Where mail for domains that are not local goes; the most specific wins. Empty: by MX records.'),
  routeMaps: z
    .array(filePath())
    .default([])
    .describe('Files of Postfix transport(5) with more routes, read at start and reload; `routes` go before them.'),
  queue: z
    .strictObject({
      lifetime: duration().prefault('5d').describe('A message that cannot be delivered for so long is returned.'),
      delayWarning: duration().prefault('4h').describe('The sender is told of the delay after so long; 0s = never.'),
      firstRetry: duration()
        .prefault('1m')
        .describe('Wait after the first failed attempt; doubled, with jitter, up to `maxRetry`.'),
      maxRetry: duration().prefault('1h').describe('Longest wait between attempts.'),
      directBudget: duration()
        .prefault('20s')
        .describe('A direct delivery that takes longer than this is queued instead.'),
      concurrency: z.number().int().positive().default(20).describe('Most connections to one destination.'),
      reportsPerSender: z
        .number()
        .int()
        .positive()
        .default(100)
        .describe(
          'Most reports (failure, delay, success) to one sender in an hour; further ones wait. Double bounces count together, and further ones are dropped and logged.',
        ),
      postmaster: z
        .string()
        .optional()
        .describe('Where double bounces and alerts of plugins go; absent = double bounces are dropped and logged.'),
    })
    .prefault({})
    .describe('Mail that cannot be settled at once.'),
  quarantine: z
    .strictObject({
      retention: duration().prefault('30d').describe('Quarantined messages older than this are removed.'),
      reasons: z
        .partialRecord(z.enum(['virus', 'spam', 'attachment', 'forged', 'malformed', 'policy']), duration())
        .default({})
        .describe('Retention by the reason of a quarantine, such as `{ virus: 7d, spam: 14d }`.'),
      maxSize: byteSize()
        .prefault('10GiB')
        .describe('Size of all quarantined messages together; beyond it the oldest are removed.'),
    })
    .prefault({})
    .describe('Mail that plugins put out of the way: `postern quarantine`.'),
  recordings: z
    .strictObject({
      share: z
        .number()
        .min(0)
        .max(100)
        .default(0)
        .describe('Per cent of messages that are recorded whole, for `postern replay`; 0 = none.'),
      retention: duration().prefault('7d').describe('Recorded messages older than this are removed.'),
      maxSize: byteSize()
        .prefault('1GiB')
        .describe('Size of all recorded messages together; beyond it the oldest are removed.'),
    })
    .prefault({})
    .describe('Messages that are kept to try another configuration on them.'),
  fetch: z
    .array(fetchAccount)
    .default([])
    .describe('Accounts at other providers whose mail is fetched and goes through the chain.'),
  sendmail: z
    .strictObject({
      maildrop: filePath()
        .default('maildrop')
        .describe(
          'Folder where `postern sendmail` leaves mail until the gateway takes it, relative to `dataDir`. For users other than the one of the gateway it must lie outside, for example /var/spool/postern/maildrop.',
        ),
      origin: domainName()
        .optional()
        .describe('Completes addresses without a domain. Default: the first of `domains`, else `hostname`.'),
      senders: z
        .enum(['any', 'own'])
        .default('any')
        .describe(
          'Envelope senders that local users may give with -f: any, or only USER@origin. Root and the user of the gateway may always give any.',
        ),
    })
    .prefault({})
    .describe('Mail of local users and programs, by `postern sendmail`.'),
  stores: z
    .strictObject({
      mail: z
        .string()
        .default('mail/%d/%n')
        .describe('Maildir of a user, relative to `dataDir`: %d domain, %n local part, %u both.'),
      quota: byteSize().prefault('0').describe('Default quota of a mailbox; 0 = none.'),
      state: z.string().default('state.db').describe('SQLite file for accounts and queue, relative to `dataDir`.'),
      traceRetention: duration().prefault('30d').describe('Traces older than this are removed.'),
    })
    .prefault({})
    .describe('Where mail and state are kept.'),
  dns: z
    .strictObject({
      servers: z
        .array(z.string())
        .default([])
        .describe('Resolvers, `address` or `address:port`; empty = those of the system.'),
      timeout: duration().prefault('5s').describe('Longest wait for one answer.'),
    })
    .prefault({})
    .describe('Name resolution.'),
  log: log.prefault({}).describe('Logging.'),
  shutdownGrace: duration()
    .prefault('30s')
    .describe('How long running transactions may finish when the gateway stops.'),
});

export type GatewayOptions = z.infer<typeof gatewayOptions>;
export type ListenerOptions = GatewayOptions['listeners'][number];
export type DomainOptions = GatewayOptions['domains'][number];
export type DirectoryOptions = GatewayOptions['directories'][number];
export type RouteOptions = GatewayOptions['routes'][number];
export type FetchOptions = GatewayOptions['fetch'][number];
