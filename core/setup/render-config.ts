// The configuration that `postern setup` writes: commented, for a person who goes on from there.
import type { Answers, Kind } from './answers.ts';

const what: Readonly<Record<Kind, string>> = {
  exchange: 'in front of Microsoft Exchange',
  microsoft365: 'in front of Microsoft 365',
  smtp: 'in front of another mail server',
  local: 'with mailboxes of its own',
};

const flow = (values: readonly string[]): string => `[${values.map(quote).join(', ')}]`;
/** Quoted where YAML would read something else. */
const quote = (text: string): string => (/^[A-Za-z0-9][\w.@/-]*$/.test(text) ? text : JSON.stringify(text));
const hostPort = (host: string, port: number): string => `${host.includes(':') ? `[${host}]` : host}:${port}`;

/** How unknown recipients of a domain are found out. */
function recipientsOf({ backend, directory, kind }: Answers, domain: string): readonly string[] {
  if (kind === 'local') return [];
  if (directory)
    return [
      '    # Unknown recipients are refused at once, by a copy of the directory; a dead one changes no answer.',
      '    recipients: { directory: corp }',
    ];
  if (backend?.facts?.recipients.some(each => each.domain === domain && each.answer === 'refuses-unknown'))
    return [
      '    # The server behind is asked, once for each address, whether it takes it.',
      '    recipients: { callout: {} }',
    ];
  return [];
}

function domains(answers: Answers): readonly string[] {
  return answers.domains.flatMap(name => [
    `  - name: ${quote(name)}`,
    `    kind: ${answers.kind === 'local' ? 'local' : 'relay'}`,
    ...recipientsOf(answers, name),
  ]);
}

function directories({ directory }: Answers): readonly string[] {
  if (!directory) return [];
  const { at, startTls, caFile, login, base } = directory;
  return [
    '# Copied here and kept current: `postern recipients status` shows it.',
    'directories:',
    '  - name: corp',
    'url' in at
      ? `    urls: ${flow([at.url])}`
      : `    domain: ${quote(at.domain)}   # its SRV records name the servers`,
    ...(startTls ? ['    startTls: true'] : []),
    ...(caFile === undefined ? [] : [`    caFile: ${quote(caFile)}`]),
    ...(login === undefined
      ? []
      : [
          `    bindDn: ${JSON.stringify(login.bindDn)}`,
          `    password: ${'env' in login.password ? `{ env: ${quote(login.password.env)} }` : `{ file: ${quote(login.password.file)} }`}`,
        ]),
    ...(base === undefined ? [] : [`    base: ${JSON.stringify(base)}`]),
    '',
  ];
}

function listeners(answers: Answers): readonly string[] {
  const { listen, outboundPort, kind } = answers;
  const address = quote(listen.address);
  const line = (name: string, role: string, port: number, tls = ''): string =>
    `  - { name: ${name}, role: ${role}, address: ${address}, port: ${port}${tls === '' ? '' : `, tls: ${tls}`} }`;
  const lines = ['  # Mail from the world.', line('smtp', 'smtp', listen.port)];
  if (outboundPort !== undefined)
    lines.push(
      '  # Outgoing mail of the server behind; who may use it is said in relayNetworks.',
      line('outbound', 'smtp', outboundPort),
    );
  if (kind === 'local')
    lines.push(
      '  # Users: sending, reading, sorting.',
      line('submissions', 'submission', 465, 'implicit'),
      line('submission', 'submission', 587),
      line('imaps', 'imap', 993, 'implicit'),
      line('imap', 'imap', 143),
      line('pop3s', 'pop3', 995, 'implicit'),
      line('sieve', 'managesieve', 4190),
    );
  return lines;
}

function tlsOf({ backend, pin }: Answers): readonly string[] {
  const certificate = backend?.facts?.certificate;
  if (!certificate) return ['    tls: opportunistic     # the server offered no TLS'];
  if (pin)
    return [
      '    # Only this certificate is taken; when the server gets another one, change it here.',
      '    tls: pinned',
      `    fingerprint: ${quote(certificate.fingerprint)}`,
    ];
  if (certificate.refusal === undefined) return ['    tls: verified          # its certificate is in order'];
  return [
    `    tls: required          # its certificate does not verify (${certificate.refusal}); 'pinned' would be safer`,
  ];
}

function routes(answers: Answers): readonly string[] {
  const { backend } = answers;
  if (!backend) return [];
  const facts = backend.facts;
  return [
    '# Where the mail for these domains goes. While the server is down it waits here (queue.lifetime), nobody gets a bounce.',
    'routes:',
    ...answers.domains.flatMap(name => [
      `  - domain: ${quote(name)}`,
      `    hosts: ${flow([hostPort(backend.host, backend.port)])}`,
      ...tlsOf(answers),
      ...(facts?.extensions.includes('XCLIENT')
        ? ['    clientFacts: xclient   # the server sees the real client']
        : []),
    ]),
    '',
  ];
}

const engineLines: Readonly<Record<Answers['engines'][number]['plugin'], (endpoint: string) => readonly string[]>> = {
  clamav: endpoint => [`  - clamav: { hosts: ${flow([endpoint])} }`],
  rspamd: endpoint => [`  - rspamd: { hosts: ${flow([endpoint])}, headerPrefix: X-Rspamd, onError: continue }`],
  spamassassin: endpoint => [`  - spamassassin: { hosts: ${flow([endpoint])}, onError: continue }`],
};
const absentEngine: Readonly<Record<string, string>> = {
  clamav: '  # - clamav: { hosts: [/run/clamav/clamd.ctl] }          # viruses; install clamav-daemon',
  rspamd: '  # - rspamd: { hosts: ["127.0.0.1:11333"], onError: continue }   # spam; install rspamd',
};

function chain(answers: Answers): readonly string[] {
  const { kind, engines, dnsbl, dkim } = answers;
  const local = kind === 'local';
  const lines = ['chain:'];
  if (local) lines.push('  - auth                    # users log in on the submission ports');
  lines.push('  - limits                  # size, recipients, header fields, hops');
  lines.push(
    dnsbl
      ? '  - dnsbl:\n      lists: [{ zone: zen.spamhaus.org }]'
      : '  # - dnsbl: { lists: [{ zone: zen.spamhaus.org }] }     # needs a resolver of your own',
    '  - relay-policy            # who may send where; without it nobody relays',
    '  - mail-auth               # SPF, DKIM, DMARC: before anything that edits the message',
  );
  if (local) lines.push('  - aliases                 # /etc/aliases and virtual maps: aliases: [/etc/aliases]');
  lines.push('  - recipients              # unknown ones are refused in the session', '  - rfc822: { mode: observe }');
  for (const plugin of ['clamav', 'rspamd', 'spamassassin'] as const) {
    const found = engines.find(engine => engine.plugin === plugin);
    if (found) lines.push(...engineLines[plugin](found.endpoint));
    else if (absentEngine[plugin]) lines.push(absentEngine[plugin]);
  }
  lines.push(
    '  # One decision from all of it. X-Spam-Flag: YES from `tag` on, 550 from `reject` on.',
    '  - score: { tag: 5, reject: 15 }',
  );
  if (local) lines.push("  - sieve                   # users' rules, edited over ManageSieve");
  if (dkim.length > 0)
    lines.push(
      '  # Signs outgoing mail; last, behind everything that edits. Publish the records first (postern doctor checks).',
      '  - dkim-sign:',
      '      keys:',
      ...dkim.map(
        key => `        - { domain: ${quote(key.domain)}, selector: ${quote(key.selector)}, key: ${quote(key.file)} }`,
      ),
    );
  return lines;
}

export function renderConfig(answers: Answers, madeBy: string): string {
  const { kind, hostname, dataDir, backendNetworks, backend } = answers;
  const unknown = backend?.facts?.recipients.filter(each => each.answer === 'accepts-all') ?? [];
  return [
    `# Postern ${what[kind]}. Written by ${madeBy}; yours to change: 'postern config check' says whether it is right,`,
    "# 'postern config explain KEY' what a key means, 'postern doctor' whether the world around it fits.",
    '',
    '# Name in greetings, HELO and trace fields. Its address must lead back to it (PTR).',
    `hostname: ${quote(hostname)}`,
    '# Mail, queue, state, certificates and traces.',
    `dataDir: ${quote(dataDir)}`,
    '',
    'domains:',
    ...domains(answers),
    '',
    ...directories(answers),
    '# A certificate that the world trusts; without one a self-signed one is made in the data folder.',
    '# tls:',
    '#   certificates:',
    `#     - certificate: /etc/letsencrypt/live/${hostname}/fullchain.pem`,
    `#       key: /etc/letsencrypt/live/${hostname}/privkey.pem`,
    '',
    'listeners:',
    ...listeners(answers),
    '',
    ...(backendNetworks.length > 0
      ? [
          '# The server behind sends its outgoing mail through here, and nobody else does.',
          `relayNetworks: ${flow(backendNetworks)}`,
          '',
        ]
      : []),
    ...routes(answers),
    ...(unknown.length > 0 && !answers.directory
      ? [
          `# The server behind takes any recipient in ${unknown.map(each => each.domain).join(', ')} and bounces later. Let it refuse unknown`,
          '# recipients in the session, or give recipients: { list, maps, directory } to the domain: else spam to invented addresses ends in bounces.',
          '',
        ]
      : []),
    ...(backend?.facts?.size === undefined
      ? []
      : [
          '# As large as the server behind takes; more is refused before it is sent.',
          `message: { maxSize: ${backend.facts.size} }`,
          '',
        ]),
    '# The filters, in the order in which they run.',
    ...chain(answers),
    '',
  ].join('\n');
}
