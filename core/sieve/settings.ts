// What an administrator decides about rules. The host hands in those that differ from the default; each is read when it
// is needed, so that a change holds from the next look on. Units in the names.

export interface TestSource {
  /** Field that an earlier filter wrote. */
  readonly header: string;
  /** Linear-time regular expression on the field's value; its first group is the score or text. Default: the whole value. */
  readonly pattern?: string;
  /** `score`: a number, `strlen`: the length of a run of characters, `text`: a key of `texts`. */
  readonly scale: 'score' | 'strlen' | 'text';
  /** Score that means "certainly" (10 of spamtest, 100 percent). */
  readonly max?: number;
  /** The maximum stands in this field instead. */
  readonly maxHeader?: { readonly header: string; readonly pattern?: string };
  /** Text → value on the scale of the test (spamtest 0–10, virustest 0–5). */
  readonly texts?: Readonly<Record<string, number>>;
}

export interface SieveSettings {
  /** Separates user and detail (RFC 5233); several characters are alternatives, `''` none. */
  readonly recipientDelimiter: string;
  /** The owner's address, for vacation, reject, notify, `redirectFrom: 'user'`. Default: the envelope recipient. */
  readonly userAddress: string | undefined;
  /** More addresses of the owner (vacation recipient check). */
  readonly userAddresses: readonly string[];
  readonly defaultMailbox: string;
  /** Of this host, for Message-ID and reports. */
  readonly hostname: string;

  /** One step is one command, test, match or block of work. */
  readonly maxSteps: number;
  /** CPU time of one run without waiting for ports. */
  readonly maxCpuMs: number;
  readonly maxActions: number;
  readonly maxRedirects: number;
  /** Bytes of a body that are looked at in memory. */
  readonly maxBodyBytes: number;

  readonly maxVariableBytes: number;
  readonly maxVariables: number;
  readonly maxMatchValues: number;
  readonly maxIncludeDepth: number;
  readonly maxIncludes: number;

  /** Envelope sender of a redirected message. */
  readonly redirectFrom: 'sender' | 'recipient' | 'original-recipient' | 'user' | { readonly fixed: string };
  /** A message that passed so many `Received` fields, or was redirected here before, is not redirected again. */
  readonly redirectMaxHops: number;

  readonly editheader: {
    readonly maxFieldBytes: number;
    readonly maxEdits: number;
    /** Lower case. RFC 5293 §6: Received and Auto-Submitted are always protected from deletion. */
    readonly forbidAdd: readonly string[];
    readonly forbidDelete: readonly string[];
  };
  readonly vacation: {
    readonly minSeconds: number;
    readonly maxSeconds: number;
    readonly defaultSeconds: number;
    /** Subject of the reply where the message has none. */
    readonly defaultSubject: string;
    /** `%$` stands for the subject of the message. */
    readonly subjectTemplate: string;
    /** Count the recipient before aliasing as an address of the owner. */
    readonly useOriginalRecipient: boolean;
    /** Answer although no address of the owner stands in To, Cc … (RFC 5230 §4.6). */
    readonly skipRecipientCheck: boolean;
    /** Envelope sender of the reply is the recipient instead of the null sender. */
    readonly sendFromRecipient: boolean;
    readonly maxReplyBytes: number;
  };
  readonly notify: {
    /** Envelope sender of mail notifications. */
    readonly from:
      | 'default'
      | 'null'
      | 'sender'
      | 'recipient'
      | 'original-recipient'
      | 'user'
      | { readonly fixed: string };
    readonly maxRecipients: number;
  };
  readonly duplicate: { readonly defaultSeconds: number; readonly maxSeconds: number };
  readonly spamtest: TestSource | undefined;
  readonly virustest: TestSource | undefined;
  readonly programTimeoutMs: number;
  /** Whether `:create` is implied wherever a message is stored. */
  readonly autoCreate: boolean;
  /** Offset of local time, minutes east of UTC; default: the system's at the time in question. */
  readonly timeZoneMinutes: number | undefined;
  /**
   * Why the script runs: at delivery, because of an IMAP command (RFC 6785), or because its owner applies it to mail that
   * is there already (FILTER=SIEVE).
   */
  readonly occasion: 'delivery' | 'imap-event' | 'filter';
  /** Settings of extensions from outside, by extension name. */
  readonly extensions: Readonly<Record<string, unknown>>;
}

export const defaultSettings: SieveSettings = {
  recipientDelimiter: '+',
  userAddress: undefined,
  userAddresses: [],
  defaultMailbox: 'INBOX',
  hostname: 'localhost',
  maxSteps: 1_000_000,
  maxCpuMs: 30_000,
  maxActions: 32,
  maxRedirects: 4,
  maxBodyBytes: 64 << 20,
  maxVariableBytes: 4096,
  maxVariables: 256,
  maxMatchValues: 32,
  maxIncludeDepth: 10,
  maxIncludes: 255,
  redirectFrom: 'sender',
  redirectMaxHops: 30,
  editheader: { maxFieldBytes: 2048, maxEdits: 100, forbidAdd: [], forbidDelete: [] },
  vacation: {
    minSeconds: 86_400,
    maxSeconds: 0,
    defaultSeconds: 604_800,
    defaultSubject: 'Automated reply',
    subjectTemplate: 'Auto: %$',
    useOriginalRecipient: false,
    skipRecipientCheck: false,
    sendFromRecipient: false,
    maxReplyBytes: 1 << 20,
  },
  notify: { from: 'default', maxRecipients: 8 },
  duplicate: { defaultSeconds: 604_800, maxSeconds: 2_592_000 },
  spamtest: undefined,
  virustest: undefined,
  programTimeoutMs: 10_000,
  autoCreate: false,
  timeZoneMinutes: undefined,
  occasion: 'delivery',
  extensions: {},
};

type Grouped = 'editheader' | 'vacation' | 'notify' | 'duplicate';
/** What a host hands in: any part of the settings. */
export type SettingsInput = {
  readonly [K in keyof SieveSettings]?: K extends Grouped ? Partial<SieveSettings[K]> | undefined : SieveSettings[K];
};

/** The present value of a setting. */
export function setting<K extends keyof SieveSettings>(given: SettingsInput | undefined, key: K): SieveSettings[K] {
  const value = given?.[key] as SieveSettings[K] | undefined;
  if (value === undefined) return defaultSettings[key];
  if (key === 'editheader' || key === 'vacation' || key === 'notify' || key === 'duplicate')
    return { ...(defaultSettings[key] as object), ...(value as object) } as SieveSettings[K];
  return value;
}
