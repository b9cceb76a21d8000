// A host of the rules engine that lives in memory: every port, nothing on disk, what happened is there to be looked at.
import type { Clock } from '../../core/lib/clock.ts';
import { ropeBytes } from '../../core/mail/rope.ts';
import type {
  MailboxPort,
  NotifyPort,
  OutgoingMail,
  ProgramPort,
  SettingsInput,
  SieveEnvelope,
  SieveHost,
} from '../../core/sieve/index.ts';
import { HostError } from '../../core/sieve/index.ts';

export interface StoredMessage {
  readonly flags: readonly string[];
  readonly text: string;
}

export interface MemoryMailbox {
  readonly messages: StoredMessage[];
  readonly specialUse?: string;
  readonly id?: string;
  readonly readOnly?: boolean;
}

export interface SentMail extends Omit<OutgoingMail, 'message'> {
  readonly text: string;
}

export interface MemoryHostOptions {
  readonly message?: string;
  readonly envelope?: Partial<SieveEnvelope>;
  readonly settings?: SettingsInput;
  /** Mailboxes besides INBOX, by name. */
  readonly mailboxes?: Readonly<
    Record<string, { readonly specialUse?: string; readonly id?: string; readonly readOnly?: boolean }>
  >;
  /** `location/name` → source. */
  readonly scripts?: Readonly<Record<string, string>>;
  readonly lists?: Readonly<Record<string, readonly string[]>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Entries by mailbox; `''` is the server. */
  readonly metadata?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Flags that the message has already. */
  readonly flags?: readonly string[];
  readonly programs?: Readonly<
    Record<string, (input: string, args: readonly string[]) => { status: number; output: string }>
  >;
  readonly nowMs?: number;
  /** Whether rejects can be made in the session. */
  readonly inSession?: boolean;
  readonly notifySchemes?: readonly string[];
}

export interface MemoryHost extends SieveHost {
  readonly boxes: Map<string, MemoryMailbox>;
  readonly sent: SentMail[];
  readonly memory: Map<string, number>;
  readonly logged: string[];
  readonly notifications: Parameters<NotifyPort['send']>[0][];
  /** Ports that fail: name of the port → the error. */
  readonly faults: Map<'store' | 'send' | 'exists' | 'scripts' | 'tracking' | 'lists', Error>;
  nowMs: number;
}

export const plainMessage = `From: Alice <alice@example.org>
To: Bob <bob@example.com>
Subject: Hello world
Date: Tue, 10 Mar 2026 12:34:56 +0100
Message-ID: <one@example.org>

Good morning,
this is the text.
`;

const crlf = (text: string): string => text.replace(/\r?\n/g, '\r\n');

const defaultEnvelope: SieveEnvelope = { from: 'alice@example.org', to: 'bob@example.com' };

/** A host whose clock stands at 10 March 2026, 12:00 UTC, local time UTC. */
export function memoryHost(options: MemoryHostOptions = {}): MemoryHost {
  const boxes = new Map<string, MemoryMailbox>([['INBOX', { messages: [] }]]);
  for (const [name, box] of Object.entries(options.mailboxes ?? {})) boxes.set(name, { messages: [], ...box });
  const sent: SentMail[] = [];
  const memory = new Map<string, number>();
  const logged: string[] = [];
  const notifications: MemoryHost['notifications'] = [];
  const faults: MemoryHost['faults'] = new Map();
  const fail = (port: Parameters<typeof faults.get>[0]): void => {
    const error = faults.get(port);
    if (error) throw error;
  };
  let monotonic = 0;
  const clock: Clock = {
    now: () => host.nowMs,
    monotonic: () => (monotonic += 0.001),
    after: () => () => undefined,
  };
  const schemes = options.notifySchemes ?? [];
  const host: MemoryHost = {
    boxes,
    sent,
    memory,
    logged,
    notifications,
    faults,
    nowMs: options.nowMs ?? Date.UTC(2026, 2, 10, 12, 0, 0),
    message: Buffer.from(crlf(options.message ?? plainMessage)),
    envelope: { ...defaultEnvelope, ...options.envelope },
    settings: { hostname: 'mx.example.com', timeZoneMinutes: 0, ...options.settings },
    clock,
    mailboxes: memoryMailboxes(boxes, options.metadata ?? {}, fail),
    outgoing: {
      async send(mail) {
        fail('send');
        const { message, ...rest } = mail;
        sent.push({ ...rest, text: (await ropeBytes(message)).toString('utf8') });
      },
      refuse: async () => options.inSession === true,
    },
    scripts: {
      async load(location, name) {
        fail('scripts');
        return options.scripts?.[`${location}/${name}`];
      },
    },
    tracking: {
      async seen(key) {
        fail('tracking');
        return (memory.get(key) ?? 0) > host.nowMs;
      },
      async remember(key, seconds) {
        fail('tracking');
        memory.set(key, host.nowMs + seconds * 1000);
      },
      async claim(key, seconds) {
        fail('tracking');
        if ((memory.get(key) ?? 0) > host.nowMs) return false;
        memory.set(key, host.nowMs + seconds * 1000);
        return true;
      },
      async forget(key) {
        memory.delete(key);
      },
    },
    lists: {
      async valid(list) {
        fail('lists');
        return options.lists?.[list] !== undefined;
      },
      contains: async (list, value) =>
        options.lists?.[list]?.some(item => item.toLowerCase() === value.toLowerCase()) ?? false,
      members: async list => options.lists?.[list],
    },
    ...(options.flags ? { flags: options.flags } : {}),
    ...(options.programs ? { programs: memoryPrograms(options.programs) } : {}),
    notify: { schemes, send: async notification => void notifications.push(notification) },
    environment: item => options.environment?.[item],
    log: (_, text) => void logged.push(text),
    newId: () => 'id',
  };
  return host;
}

function memoryPrograms(programs: NonNullable<MemoryHostOptions['programs']>): ProgramPort {
  return {
    async run(request) {
      const program = programs[request.name];
      if (!program) throw new HostError('permanent', `Program '${request.name}' does not exist`);
      const { status, output } = program(Buffer.from(request.input).toString('utf8'), request.arguments);
      return { status, output: Buffer.from(output) };
    },
  };
}

function memoryMailboxes(
  boxes: Map<string, MemoryMailbox>,
  metadata: Readonly<Record<string, Readonly<Record<string, string>>>>,
  fail: (port: 'store' | 'exists') => void,
): MailboxPort {
  const nameWith = (holds: (box: MemoryMailbox) => boolean): string | undefined =>
    [...boxes].find(([, box]) => holds(box))?.[0];
  return {
    async exists(name) {
      fail('exists');
      return boxes.has(name);
    },
    mayStore: async name => boxes.has(name) && boxes.get(name)?.readOnly !== true,
    create: async name => void boxes.set(name, { messages: [] }),
    delete: async name => void boxes.delete(name),
    async store({ mailbox, flags, create, specialUse, message }) {
      fail('store');
      let box = boxes.get(mailbox);
      if (!box && create) {
        box = { messages: [], ...(specialUse === undefined ? {} : { specialUse }) };
        boxes.set(mailbox, box);
      }
      if (!box) throw new HostError('permanent', `Mailbox '${mailbox}' does not exist`);
      box.messages.push({ flags, text: (await ropeBytes(message)).toString('utf8') });
    },
    invalidName: name => (/\/\/|^\/|\/$/.test(name) ? 'a part of it is empty' : undefined),
    bySpecialUse: async use => nameWith(box => box.specialUse?.toLowerCase() === use.toLowerCase()),
    specialUses: async name => {
      const use = boxes.get(name)?.specialUse;
      return use === undefined ? [] : [use];
    },
    byId: async id => nameWith(box => box.id === id),
    metadata: async (mailbox, entry) => metadata[mailbox ?? '']?.[entry],
  };
}
