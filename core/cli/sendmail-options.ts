// The options of sendmail(1) as programs use them: bundled with their values (`-fbob@example.org`, `-oi`) or apart, known
// ones that mean nothing here taken in silence, unknown ones refused.
import { UsageError } from './context.ts';

export interface SendmailOptions {
  readonly mode: 'send' | 'queue' | 'aliases' | 'flush';
  /** Envelope sender; '' for the null sender. Absent: the user. */
  readonly sender?: string;
  /** For the From field where there is none. */
  readonly fullName?: string;
  /** -t: recipients from To, Cc and Bcc, besides those of the command line. */
  readonly fromHeader: boolean;
  /** -i: a line with a lone dot does not end the message. */
  readonly ignoreDots: boolean;
  readonly recipients: readonly string[];
  readonly notify?: readonly ('never' | 'success' | 'failure' | 'delay')[];
  readonly ret?: 'FULL' | 'HDRS';
  readonly envid?: string;
  readonly configFile?: string;
}

const modes: Readonly<Record<string, SendmailOptions['mode']>> = { m: 'send', p: 'queue', i: 'aliases' };
const refusedModes: Readonly<Record<string, string>> = {
  d: "the gateway is started with 'postern start'",
  D: "the gateway is started with 'postern start'",
  s: 'SMTP on standard input is not offered; connect to the submission port',
  v: 'addresses are not verified here',
};

function modeOf(value: string): Partial<SendmailOptions> {
  const mode = modes[value];
  if (mode === undefined) throw new UsageError(`Option -b${value}: ${refusedModes[value] ?? 'unknown mode'}`);
  return { mode };
}

/** RFC 3461 §4.1, in the form of sendmail: -N never, or -N failure,delay,success */
function notifyOf(value: string): NonNullable<SendmailOptions['notify']> {
  const words = value.toLowerCase().split(',');
  const known = ['never', 'success', 'failure', 'delay'];
  if (words.some(word => !known.includes(word)) || (words.length > 1 && words.includes('never')))
    throw new UsageError(`Option -N ${value}: 'never', or some of 'failure', 'delay', 'success'`);
  return words as NonNullable<SendmailOptions['notify']>;
}

function retOf(value: string): 'FULL' | 'HDRS' {
  const ret = value.toUpperCase();
  if (ret !== 'FULL' && ret !== 'HDRS') throw new UsageError(`Option -R ${value}: 'full' or 'hdrs'`);
  return ret;
}

const senderOf = (value: string): Partial<SendmailOptions> => ({ sender: value === '<>' ? '' : value });
const nothing = (): Partial<SendmailOptions> => ({});

const withValue: Readonly<Record<string, (value: string) => Partial<SendmailOptions>>> = {
  f: senderOf,
  r: senderOf,
  F: fullName => ({ fullName }),
  C: configFile => ({ configFile }),
  b: modeOf,
  N: value => ({ notify: notifyOf(value) }),
  R: value => ({ ret: retOf(value) }),
  V: envid => ({ envid }),
  // Old options: `-oi` is `-i`; error mode, delivery mode and the like are taken as they come.
  o: value => (value === 'i' ? { ignoreDots: true } : {}),
  // Body type, hops, log tag, options of the configuration, traffic log, protocol: nothing of it applies here.
  B: nothing,
  h: nothing,
  L: nothing,
  O: nothing,
  X: nothing,
  p: nothing,
};

const alone: Readonly<Record<string, Partial<SendmailOptions>>> = {
  t: { fromHeader: true },
  i: { ignoreDots: true },
  G: {},
  m: {},
  n: {},
  s: {},
  U: {},
  v: {},
  E: {},
};

/** Letters whose value, if any, is bundled: -q, -q15m, -Ac. */
const bundled: Readonly<Record<string, Partial<SendmailOptions>>> = { q: { mode: 'flush' }, A: {} };

/** @throws UsageError */
export function parseSendmail(args: readonly string[], start: SendmailOptions['mode'] = 'send'): SendmailOptions {
  let options: SendmailOptions = { mode: start, fromHeader: false, ignoreDots: false, recipients: [] };
  const rest = [...args];
  const add = (...more: readonly string[]): void => {
    options = { ...options, recipients: [...options.recipients, ...more] };
  };
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--') {
      add(...rest);
      break;
    }
    if (!word.startsWith('-') || word === '-') add(word);
    else options = { ...options, ...readWord(word, rest) };
  }
  return options;
}

/** One word with its options; takes the next word from `rest` where an option wants it. */
function readWord(word: string, rest: string[]): Partial<SendmailOptions> {
  let found: Partial<SendmailOptions> = {};
  for (let at = 1; at < word.length; at++) {
    const letter = word[at] as string;
    const single = alone[letter];
    if (single) {
      found = { ...found, ...single };
      continue;
    }
    const whole = bundled[letter];
    if (whole) return { ...found, ...whole };
    const read = withValue[letter];
    if (!read) throw new UsageError(`Unknown option '-${letter}'`);
    const value = word.slice(at + 1) || rest.shift();
    if (value === undefined) throw new UsageError(`Option '-${letter}' needs a value`);
    return { ...found, ...read(value) };
  }
  return found;
}
