// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these are variables of Sieve scripts
// Random scripts in what Postern and Pigeonhole both have, and messages that are hard to read. Every statement leaves a
// line in the log, so that one run compares many tests.
import type { Random } from '../harness/random.ts';

export const extensions = [
  ...['variables', 'fileinto', 'copy', 'envelope', 'subaddress', 'relational', 'regex', 'body', 'date', 'index'],
  ...['imap4flags', 'environment', 'editheader', 'mailbox', 'vacation', 'enotify', 'reject', 'include', 'ihave'],
  ...['encoded-character', 'comparator-i;ascii-numeric', 'mime', 'foreverypart', 'extracttext', 'vnd.dovecot.debug'],
] as const;

const headerNames = [
  ...['subject', 'from', 'to', 'cc', 'date', 'received', 'message-id', 'x-mailer', 'content-type', 'x-odd', 'x-number'],
  ...['reply-to', 'sender', 'x-enc', 'x-missing', 'Subject', 'list-id', 'mime-version'],
];
const addressNames = ['from', 'to', 'cc', 'reply-to', 'sender', 'resent-to', 'bcc'];
const dateParts = [
  ...[
    'year',
    'month',
    'day',
    'date',
    'julian',
    'hour',
    'minute',
    'second',
    'time',
    'iso8601',
    'std11',
    'zone',
    'weekday',
  ],
];
const flags = ['\\\\Seen', '\\\\Flagged', 'work', 'Work', '$label1', 'a b', '\\\\Answered', '', 'x  y', '\\\\Draft'];
const folders = ['INBOX', 'a', 'b', 'a/b', 'INBOX', 'Trash'];

export class ScriptGenerator {
  readonly #random: Random;
  readonly #words: readonly string[];

  constructor(random: Random, message: string) {
    this.#random = random;
    const words = [...message.slice(0, 4000).matchAll(/[A-Za-z0-9@.<>\-äöé]{2,16}/g)].map(found => found[0]);
    this.#words = words.length > 0 ? words : ['x'];
  }

  script(): string {
    const count = 4 + this.#random.int(6);
    const lines = [`require [${extensions.map(name => `"${name}"`).join(', ')}];`];
    for (let at = 0; at < count; at += 1) lines.push(this.#statement(`${at}`, 0));
    return `${lines.join('\n')}\n`;
  }

  #statement(id: string, depth: number): string {
    const r = this.#random;
    const kind = r.int(20);
    if (kind < 11) return this.#branch(id, depth);
    if (kind < 14) return this.#set(id);
    if (kind < 16) return this.#flag(id);
    if (kind === 16) return this.#edit(id);
    if (kind === 17) return this.#loop(id);
    return this.#action();
  }

  #branch(id: string, depth: number): string {
    const inner = depth < 2 && this.#random.chance(0.2) ? this.#statement(`${id}.1`, depth + 1) : '';
    const other = depth < 2 && this.#random.chance(0.1) ? `elsif ${this.#test(1)} { debug_log "${id} E"; }` : '';
    return `if ${this.#test(0)} { debug_log "${id} T \${0}|\${1}|\${2}|\${3}"; ${inner} } ${other} else { debug_log "${id} F"; }`;
  }

  #set(id: string): string {
    const modifiers = [':lower', ':upper', ':lowerfirst', ':upperfirst', ':quotewildcard', ':length', ':encodeurl', ''];
    const modifier = this.#random.pick(modifiers);
    const second = modifier === ':lower' && this.#random.chance(0.5) ? ':upperfirst' : '';
    const name = this.#random.pick(['v', 'w', 'V']);
    return `set ${modifier} ${second} "${name}" "${this.#text()}"; debug_log "${id} [\${${name}}]";`;
  }

  #flag(id: string): string {
    const list = `["${this.#random.pick(flags)}", "${this.#random.pick(flags)}"]`;
    const command = this.#random.pick(['setflag', 'addflag', 'removeflag']);
    const match = this.#random.pick([':is', ':contains', ':count "ge" :comparator "i;ascii-numeric"']);
    const key = match.startsWith(':count') ? `"${this.#random.int(4)}"` : list;
    return `${command} ${list}; if hasflag ${match} ${key} { debug_log "${id} T"; } else { debug_log "${id} F"; }`;
  }

  #edit(id: string): string {
    const name = this.#random.pick(['X-New', 'Subject', 'X-Odd', 'To', 'X-Number']);
    const last = this.#random.pick([':last', '']);
    if (this.#random.chance(0.5))
      return `addheader ${last} "${name}" "${this.#word()} ${this.#word()}"; if header :matches "${name}" "*" { debug_log "${id} [\${1}]"; }`;
    const index = this.#random.pick(['', ':index 1', ':index 1 :last', ':index 2']);
    const pattern = this.#random.chance(0.5) ? `:contains "${name}" "${this.#word()}"` : `"${name}"`;
    return `deleteheader ${index} ${pattern}; if header :matches "${name}" "*" { debug_log "${id} [\${1}]"; } else { debug_log "${id} none"; }`;
  }

  #loop(id: string): string {
    return `foreverypart { if header :mime :contenttype :matches "content-type" "*" { debug_log "${id} [\${1}]"; } ${this.#random.chance(0.5) ? `if header :mime :contenttype :is "content-type" "text/plain" { extracttext :first ${1 + this.#random.int(40)} "t"; set :length "n" "\${t}"; debug_log "${id} \${n}"; }` : ''} }`;
  }

  #action(): string {
    const r = this.#random;
    const kind = r.int(10);
    const flagged = r.chance(0.4) ? `:flags "${r.pick(flags)}"` : '';
    const copy = r.chance(0.4) ? ':copy' : '';
    if (kind < 4) return `fileinto ${copy} ${flagged} ${r.chance(0.2) ? ':create' : ''} "${r.pick(folders)}";`;
    if (kind === 4) return `keep ${flagged};`;
    if (kind === 5) return 'discard;';
    if (kind === 6) return `redirect ${copy} "${r.pick(['a@example.org', 'b@example.org', 'Name <a@example.org>'])}";`;
    if (kind === 7) return `vacation :days ${1 + r.int(9)} "gone";`;
    if (kind === 8) return r.chance(0.3) ? 'reject "no";' : 'keep;';
    return r.chance(0.3) ? 'stop;' : `notify :message "m" "mailto:n@example.org";`;
  }

  #test(depth: number): string {
    const r = this.#random;
    if (depth < 2 && r.chance(0.2)) {
      const list = Array.from({ length: 1 + r.int(3) }, () => this.#test(depth + 1)).join(', ');
      return r.chance(0.3) ? `not ${this.#test(depth + 1)}` : `${r.pick(['allof', 'anyof'])} (${list})`;
    }
    return this.#leaf();
  }

  #leaf(): string {
    const r = this.#random;
    const index = r.chance(0.2) ? r.pick([':index 1', ':index 2', ':index 1 :last']) : '';
    const part = r.pick([':all', ':localpart', ':domain', ':user', ':detail', '']);
    const kind = r.int(16);
    if (kind < 4) return `header ${index} ${this.#match()} ${this.#list(headerNames)} ${this.#keys()}`;
    if (kind < 7) return `address ${index} ${part} ${this.#match()} ${this.#list(addressNames)} ${this.#keys()}`;
    if (kind === 7) return `envelope ${part} ${this.#match()} "${r.pick(['from', 'to'])}" ${this.#keys()}`;
    if (kind === 8) return `exists ${this.#list(headerNames)}`;
    if (kind === 9) return `size ${r.pick([':over', ':under'])} ${r.pick(['100', '1K', '3K', '10K', '1M'])}`;
    if (kind < 12) return this.#body();
    if (kind === 12) return this.#date();
    if (kind === 13) return `string ${this.#match()} "${this.#text()}" ${this.#keys()}`;
    if (kind === 14)
      return `header :mime ${r.pick(['', ':anychild'])} ${r.pick([':type', ':subtype', ':contenttype', ':param "charset"'])} ${this.#match()} "content-type" ["text", "plain", "us-ascii", "text/*", "${this.#word()}"]`;
    return r.pick([
      'true',
      'false',
      `header :count "${this.#relation()}" :comparator "i;ascii-numeric" ${this.#list(headerNames)} "${r.int(4)}"`,
    ]);
  }

  #body(): string {
    const transform = this.#random.pick([
      ':raw',
      ':content "text"',
      ':content "text/plain"',
      ':content ""',
      ':content "multipart"',
    ]);
    return `body ${transform} ${this.#random.pick([':contains', ':is', ':matches'])} ${this.#keys()}`;
  }

  #date(): string {
    const r = this.#random;
    const zone = r.pick([':originalzone', ':zone "+0100"', ':zone "-0530"', '']);
    return `date ${zone} :matches "${r.pick(['date', 'received', 'x-odd', 'resent-date'])}" "${r.pick(dateParts)}" "*"`;
  }

  #relation(): string {
    return this.#random.pick(['gt', 'ge', 'lt', 'le', 'eq', 'ne']);
  }

  #match(): string {
    const r = this.#random;
    const comparator = r.pick(['', ':comparator "i;octet"', ':comparator "i;ascii-casemap"']);
    const kind = r.int(12);
    if (kind < 3) return `${comparator} :is`;
    if (kind < 6) return `${comparator} :contains`;
    if (kind < 10) return `${comparator} :matches`;
    if (kind === 10) return `:value "${this.#relation()}" ${r.pick([comparator, ':comparator "i;ascii-numeric"'])}`;
    return `:count "${this.#relation()}" :comparator "i;ascii-numeric"`;
  }

  #list(names: readonly string[]): string {
    const count = 1 + this.#random.int(3);
    return `[${Array.from({ length: count }, () => `"${this.#random.pick(names)}"`).join(', ')}]`;
  }

  #word(): string {
    return this.#random.pick(this.#words).replace(/[\\"]/g, '');
  }

  #text(): string {
    const r = this.#random;
    const pieces = [
      this.#word(),
      ' ',
      '${v}',
      '${w}',
      '${1}',
      '*',
      '?',
      'Ab',
      '7',
      '\\\\',
      '${hex:41 42}',
      '${unicode:e9}',
      '${bad',
      'ä',
    ];
    return Array.from({ length: r.int(5) }, () => r.pick(pieces)).join('');
  }

  #keys(): string {
    const count = 1 + this.#random.int(3);
    return `[${Array.from({ length: count }, () => `"${this.#key()}"`).join(', ')}]`;
  }

  #key(): string {
    const r = this.#random;
    const word = this.#word();
    const at = r.int(word.length + 1);
    const forms = [
      ...[word, word.toUpperCase(), word.slice(0, at), `*${word}*`, `*${word.slice(at)}*`, `${word.slice(0, at)}?*`],
      ...[
        `*${word.slice(0, at)}?${word.slice(at + 1)}*`,
        '*',
        '',
        `*${word}`,
        `${word}*`,
        '*?*',
        '* *',
        '*@*',
        '*.*',
        '2',
        '*e*e*',
      ],
      ...['\\\\**', '${v}', '*\\r\\n*', '??*'],
    ];
    return r.pick(forms).replace('\\r\\n', '\r\n');
  }
}

/** Messages that test how fields, addresses, encodings and MIME are read. */
export function oddMessages(random: Random): readonly string[] {
  const froms = [
    'Foo <foo@example.org>',
    '"A, B" <ab@example.org>',
    'plain@example.org (comment)',
    '<x+tag@Example.ORG>',
    'broken',
    'a@b@c',
    '"q s"@example.net',
    'Group: a@example.org, b@example.org;',
    '=?utf-8?Q?J=C3=B6rg?= <j@example.org>',
  ];
  const subjects = [
    'Hello',
    '=?utf-8?B?w6TDtsO8?=',
    '=?iso-8859-1?q?a=E4?= =?iso-8859-1?q?b?= c',
    '  spaced  out ',
    'two\r\n lines',
    '',
    'Re: [list] *star* ?',
    '=?utf-8?q?broken',
    'ünïcödé',
  ];
  const dates = [
    'Tue, 10 Mar 2026 12:34:56 +0100',
    '1 Jan 2020 00:00:00 GMT',
    'Fri, 30 Feb 2024 10:00:00 +0000',
    'nonsense',
    'Sat, 29 Feb 2020 23:59:60 -0500',
    'Mon, 5 Jan 98 1:02:03 EST',
  ];
  return Array.from({ length: 24 }, (_, at) => {
    const type = random.pick(['plain', 'plain', 'multi', 'nested', 'qp', 'base64', 'none']);
    const head = [
      `Received: from a by b; ${random.pick(dates)}`,
      'Received: from c by d; Mon, 9 Mar 2026 01:02:03 -0700',
      `From: ${random.pick(froms)}`,
      `To: ${random.pick(froms)}, ${random.pick(froms)}`,
      `Subject: ${subjects[at % subjects.length]}`,
      `Date: ${random.pick(dates)}`,
      `X-Odd: ${random.pick(['', 'value', 'Value two', ' 12 apples', random.pick(dates)])}`,
      `X-Odd: ${random.pick(['second', 'value'])}`,
      `X-Number: ${random.int(200)}`,
      `X-Enc: ${random.pick(subjects)}`,
      ...(random.chance(0.3) ? ['Cc: ', 'Resent-To: r@example.org'] : []),
    ];
    return [...head, ...entity(type), ''].join('\r\n');
  });
}

function entity(type: string): readonly string[] {
  const multi = (boundary: string, inner: readonly (readonly string[])[], subtype = 'mixed'): string[] => [
    `Content-Type: multipart/${subtype}; boundary="${boundary}"`,
    '',
    'preamble text',
    ...inner.flatMap(part => [`--${boundary}`, ...part]),
    `--${boundary}--`,
    'epilogue text',
  ];
  const plain = ['Content-Type: text/plain; charset=us-ascii', '', 'Hello plain', 'text'];
  const html = ['Content-Type: text/html; charset=utf-8', '', '<p>Hello <b>html</b></p>'];
  if (type === 'multi') return ['MIME-Version: 1.0', ...multi('b1', [plain, html])];
  if (type === 'nested')
    return [
      'MIME-Version: 1.0',
      ...multi('b1', [
        multi('b2', [plain, html], 'alternative'),
        ['Content-Type: message/rfc822', '', 'Subject: inner', 'From: i@example.org', '', 'inner text'],
      ]),
    ];
  if (type === 'qp')
    return [
      'MIME-Version: 1.0',
      'Content-Type: text/plain; charset=iso-8859-1',
      'Content-Transfer-Encoding: quoted-printable',
      '',
      'caf=E9 soft=',
      'line',
    ];
  if (type === 'base64')
    return [
      'MIME-Version: 1.0',
      'Content-Type: text/plain; charset=utf-8',
      'Content-Transfer-Encoding: base64',
      '',
      Buffer.from('Encoded text ä\r\nline two').toString('base64'),
    ];
  if (type === 'none') return [];
  return ['', 'plain body', 'second line é'];
}
