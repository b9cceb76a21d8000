// Action notify and its tests, RFC 5435; method `mailto:`, RFC 5436. Other methods come from the host.

import { addressKey, parseOneAddress } from '../addresses.ts';
import type { Field } from '../compose.ts';
import { addressField, commonFields, messageOf, textPart } from '../compose.ts';
import type { Call, Complain, Execution, Meeting, SieveHost } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { decodedValue } from '../header-cache.ts';
import type { Mailto } from '../mailto.ts';
import { parseMailto } from '../mailto.ts';
import type { Entry } from '../result.ts';
import { ownerOf, senderBySetting } from './redirect.ts';
import { storeCopy } from './store-actions.ts';

const schemeOf = (uri: string): string => /^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1]?.toLowerCase() ?? '';

/** Undefined, or why the method cannot be used (RFC 5435 §3.2). */
function fault(uri: string, host: SieveHost | undefined): string | undefined {
  const scheme = schemeOf(uri);
  if (scheme === 'mailto') {
    const parsed = parseMailto(uri);
    return typeof parsed === 'string' ? parsed : undefined;
  }
  if (scheme === '') return `Notification method ${quote(uri)} is no URI`;
  if (!host) return undefined;
  if (!host.notify?.schemes.includes(scheme)) return `Notification method '${scheme}' is not supported`;
  return host.notify.valid?.(uri);
}

function checkMethod(uri: string, complain: Complain): void {
  const why = fault(uri, undefined);
  if (why !== undefined) complain(why);
}

function checkImportance(text: string, complain: Complain): void {
  if (!/^[123]$/.test(text)) complain(`Tag ':importance' must be "1", "2" or "3", found ${quote(text)}`);
}

// RFC 5435 §3.5
function checkOption(text: string, complain: Complain): void {
  if (!/^[a-z0-9][a-z0-9._-]*=[^\0\r\n]*$/i.test(text)) complain(`Option ${quote(text)} has not the form "name=value"`);
}

function notify(call: Call) {
  const method = call.string('method');
  const why = fault(method, call.run.host);
  if (why !== undefined) throw call.error(why);
  const from = call.maybeString('from');
  if (from !== undefined && schemeOf(method) === 'mailto' && !parseOneAddress(from))
    throw call.error(`Sender ${quote(from)} of the notification is not a valid address`);
  const most = call.run.setting('notify').maxRecipients;
  const mail = schemeOf(method) === 'mailto' ? parseMailto(method) : undefined;
  if (typeof mail === 'object' && mail.to.length + mail.cc.length > most)
    throw call.error(`Notification exceeds the policy limit of ${most} recipients`);
  return call.act({
    action: 'notify',
    cancelsKeep: false,
    arguments: {
      method,
      importance: call.maybeString('importance') ?? '2',
      ...(from === undefined ? {} : { from }),
      ...(call.has('message') ? { message: call.string('message') } : {}),
      ...(call.has('options') ? { options: call.strings('options') } : {}),
    },
  });
}

// RFC 5436 §2.7: nobody is told the same thing twice.
function meets(entry: Entry, earlier: Entry): Meeting {
  if (earlier.action !== 'notify') return 'both';
  const same = ['method', 'message', 'from', 'importance'].every(
    key => entry.arguments[key] === earlier.arguments[key],
  );
  return same ? 'drop' : 'both';
}

const header = (entry: Entry, name: string): string => {
  const field = entry.message.headers.get(name);
  return field ? decodedValue(field) : '';
};

/** RFC 5435 §3.6 */
const defaultMessage = (entry: Entry): string => {
  const from = header(entry, 'from');
  const subject = header(entry, 'subject');
  return subject === '' ? `New message from ${from}` : `${from}: ${subject}`;
};

function mailOf(entry: Entry, mail: Mailto, execution: Execution) {
  const { from, message, importance } = entry.arguments;
  const author = typeof from === 'string' ? from : ownerOf(execution);
  const subject =
    typeof message === 'string' ? message : (mail.subject ?? (header(entry, 'subject') || defaultMessage(entry)));
  const text = mail.body ?? `Notification of a new message.\r\n\r\n${defaultMessage(entry)}\r\n`;
  const part = textPart(text);
  const id = entry.message.headers.get('message-id')?.value;
  const fields: Field[] = [
    // RFC 5436 §2.7.1
    ['Auto-Submitted', `auto-notified; owner-email="${ownerOf(execution).replace(/["\\]/g, '')}"`],
    ['From', addressField(author)],
    ...(mail.to.length === 0 ? [] : [['To', mail.to.map(addressField).join(', ')] as const]),
    ...(mail.cc.length === 0 ? [] : [['Cc', mail.cc.map(addressField).join(', ')] as const]),
    ['Subject', subject],
    ...(id === undefined ? [] : [['References', id] as const]),
    ...importanceFields(String(importance)),
    ...mail.fields,
    ...commonFields(execution.host),
    ...part.fields,
  ];
  return messageOf(fields, part.body);
}

function importanceFields(importance: string): readonly Field[] {
  if (importance === '1')
    return [
      ['X-Priority', '1 (Highest)'],
      ['Importance', 'High'],
    ];
  if (importance === '3')
    return [
      ['X-Priority', '5 (Lowest)'],
      ['Importance', 'Low'],
    ];
  return [
    ['X-Priority', '3 (Normal)'],
    ['Importance', 'Normal'],
  ];
}

async function execute(entry: Entry, execution: Execution): Promise<void> {
  const method = String(entry.arguments['method']);
  const { host } = execution;
  try {
    if (schemeOf(method) === 'mailto') return await sendMail(entry, method, execution);
    const { message, from, importance, options } = entry.arguments;
    await host.notify?.send({
      uri: method,
      message: typeof message === 'string' ? message : defaultMessage(entry),
      ...(typeof from === 'string' ? { from } : {}),
      importance: Number(importance) as 1 | 2 | 3,
      options: (options as readonly string[] | undefined) ?? [],
    });
    execution.detail = `notified by ${schemeOf(method)}`;
  } catch (error) {
    // RFC 5435 §3.8: a notification that cannot be sent is let go, the message is not affected.
    execution.note(
      'warning',
      entry,
      `Notification was not sent: ${error instanceof Error ? error.message : String(error)}`,
    );
    execution.skip('not sent');
  }
}

const notified = Symbol('recipients notified');

/** RFC 5436 §2.7: nobody gets two notifications from one script. */
function withoutNotified(mail: Mailto, execution: Execution): Mailto {
  const had = execution.state(notified, () => new Set<string>());
  const fresh = (address: string): boolean => {
    const key = addressKey(address);
    if (had.has(key)) return false;
    had.add(key);
    return true;
  };
  return { ...mail, to: mail.to.filter(fresh), cc: mail.cc.filter(fresh) };
}

/** RFC 5436 §2.7: a null sender stays null; else the site's choice, or what `:from` says. */
function envelopeSender(entry: Entry, execution: Execution): string {
  const choice = execution.setting('notify').from;
  if (execution.envelope.from === '') return '';
  if (choice !== 'default') return senderBySetting(choice, execution);
  const { from } = entry.arguments;
  const given = typeof from === 'string' ? parseOneAddress(from)?.text : undefined;
  return given ?? `postmaster@${execution.setting('hostname')}`;
}

async function sendMail(entry: Entry, method: string, execution: Execution): Promise<void> {
  const parsed = parseMailto(method);
  if (typeof parsed === 'string') throw new Error(parsed);
  const automatic = entry.message.headers.all('auto-submitted').some(field => !/^no\b/i.test(field.value));
  if (automatic) return execution.skip('not sent: the message was sent automatically');
  const mail = withoutNotified(parsed, execution);
  const to = [...mail.to, ...mail.cc];
  if (to.length === 0) return execution.skip('not sent: there is no recipient who has not been notified');
  const message = mailOf(entry, mail, execution);
  await execution.send({ from: envelopeSender(entry, execution), to, message, reason: 'notify' });
  execution.detail = `sent to ${to.join(', ')}`;
  await storeCopy(entry, execution, message);
}

async function capability(call: Call): Promise<boolean> {
  const uri = call.string('method');
  if (fault(uri, call.run.host) !== undefined) return false;
  // RFC 5435 §5: an unknown capability fails, it is no error.
  if (call.string('capability').toLowerCase() !== 'online') return false;
  const online = schemeOf(uri) === 'mailto' ? 'maybe' : ((await call.run.host.notify?.online?.(uri)) ?? 'maybe');
  return call.matches('keys', [online]);
}

const encodeUrl = (value: string): string =>
  encodeURIComponent(Buffer.from(value).toString('utf8')).replace(
    /[!'()*]/g,
    char => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );

export const enotify = defineExtension({
  name: 'enotify',
  capability: 'mailto',
  modifiers: [{ name: 'encodeurl', precedence: 15, apply: encodeUrl }],
  commands: [
    {
      name: 'notify',
      tags: [
        { name: 'from', type: 'string' },
        { name: 'importance', type: 'string', check: checkImportance },
        { name: 'options', type: 'string-list', check: checkOption },
        { name: 'message', type: 'string' },
      ],
      arguments: [{ name: 'method', type: 'string', check: checkMethod }],
      validate(word) {
        const from = word.string('from');
        const mail = schemeOf(word.string('method') ?? '') === 'mailto';
        if (mail && from !== undefined && !parseOneAddress(from))
          word.error(`Sender ${quote(from)} of the notification is not a valid address`, 'from');
      },
      run: notify,
    },
  ],
  actions: [{ name: 'notify', meets, execute }],
  tests: [
    {
      name: 'valid_notify_method',
      arguments: [{ name: 'methods', type: 'string-list' }],
      run(call) {
        const methods = call.strings('methods');
        call.looked(methods);
        return methods.every(method => fault(method, call.run.host) === undefined);
      },
    },
    {
      name: 'notify_method_capability',
      uses: ['match-type', 'comparator'],
      arguments: [
        { name: 'method', type: 'string' },
        { name: 'capability', type: 'string' },
        { name: 'keys', type: 'string-list' },
      ],
      run: capability,
    },
  ],
});
