// Where Postern and Pigeonhole differ on purpose. Each entry says what the standard says.

interface Behaviour {
  readonly status: string;
  readonly log: readonly string[];
  readonly actions: readonly string[];
  readonly raw: string;
}

export interface Difference {
  readonly script: string;
  readonly message: string;
  readonly here: Behaviour;
  readonly there: Behaviour;
}

/** Without what is stored in the inbox. */
const apart = (actions: readonly string[]): string =>
  actions
    .filter(action => !action.startsWith('store INBOX'))
    .sort()
    .join();

/** Stores in the same mailbox made one, the last flags kept. */
function once(actions: readonly string[]): readonly string[] {
  const out = new Map<string, string>();
  for (const action of actions) out.set(/^store (.*) \[.*\]$/.exec(action)?.[1] ?? action, action);
  return [...out.values()].sort();
}

const reasons: readonly (readonly [RegExp, string])[] = [
  [/extracttext/, 'RFC 5703 §7: `:first` counts characters, not octets'],
  [/addheader :last/, 'RFC 5293 §4: `:last` adds below the fields of that name that are there, so it is not the first'],
  [/\bdate (:zone "\S+"|:originalzone)? ?:matches/, 'RFC 5260 §4: what is no date-time of RFC 5322 is no date'],
  [
    /anyof \(.*\btrue\b.*\)/,
    'RFC 5229 §3.2: tests from left to right, and their captures, also before one that is always true',
  ],
  [
    /set\s+[:\w ]*"(\w)" "[^"]*\$\{\1\}/i,
    'RFC 5229 §3: the value of a variable is the one it has when control reaches the statement, also in `set` of itself',
  ],
  [/:param "charset"/, 'RFC 5703 §4.2: a parameter that is absent gives no value to compare'],
  [/\*\?/, 'RFC 5229 §3.2: in `*?` the star takes as little as possible, nothing, and `?` the character'],
  [/body .*""/, 'RFC 5228 §2.7.1: the empty key is contained in every value'],
  [
    /:value "(lt|le|gt|ge)"/,
    'RFC 4790 §9.2.1: i;ascii-casemap orders as upper case, so letters come before the backslash',
  ],
];

/** RFC 5293 §7 wants the body as it was; Pigeonhole loses it when fields were edited before. */
const editedBefore = (script: string, statement: string): boolean =>
  /body :raw/.test(statement) && /(add|delete)header/.test(script.slice(0, script.indexOf(statement)));

/** The reason, or undefined: nobody knows. */
export function explain({ here, there, script, message }: Difference): string | undefined {
  if (there.raw.includes('Panic:')) return 'none: Pigeonhole itself crashed';
  if (here.log.join('\n') === there.log.join('\n') && once(here.actions).join() === once(there.actions).join())
    return 'RFC 5228 §2.10.3, RFC 5232 §3: a message is stored once in a mailbox, with the last flags';
  if (here.log.join() === there.log.join() && script.includes(':copy') && apart(here.actions) === apart(there.actions))
    return 'RFC 5228 §2.10.2: an action without `:copy` cancels the implicit keep, also after the same one with it';
  if (/\bT broken\|/.test(here.log.join()))
    return 'RFC 5228 §2.7.4: what is no valid address is left out of parts of addresses only, `:all` compares it';
  const first = Math.max(
    here.log.findIndex((line, index) => line !== there.log[index]),
    0,
  );
  const id = (here.log[first] ?? there.log[first] ?? '').split(' ', 1)[0];
  const statement = script.split(/(?<=[;}] *)\n/).find(line => line.includes(`"${id} `)) ?? '';
  const head = message.split('\r\n\r\n', 1).join('').concat('\r\n');
  if (/address /.test(statement) && /^(cc|to|from|sender|reply-to|resent-to|bcc): *(.*:;)?\r$/im.test(head))
    return 'RFC 5228 §2.7.4, §5.1: an empty field or group holds no address';
  if (/address /.test(statement) && /a@b@c|broken/.test(head))
    return 'RFC 5228 §2.7.4: what is no valid address is compared as a whole';
  const captured = here.log[first]?.slice(0, 8) === there.log[first]?.slice(0, 8);
  if (here.log[first]?.includes('\ufffd'))
    return 'RFC 5228 §2.7.2: octets that are no UTF-8 are shown as U+FFFD, not dropped';
  if (captured && !/:(matches|regex)/.test(statement) && /\*\?/.test(script))
    return 'RFC 5229 §3.2: in an earlier `*?` the star takes nothing, and the captures are still seen';
  if (captured && /addheader :last/.test(script.slice(0, script.indexOf(statement))))
    return 'RFC 5293 §4: what `:last` added was matched earlier, and its captures are still seen';
  if (editedBefore(script, statement)) return 'RFC 5293 §7: editing the header leaves the body alone';
  for (const [pattern, why] of reasons) if (pattern.test(statement)) return why;
  return undefined;
}
