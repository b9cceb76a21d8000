// Signs what our own users and machines send, so that others can tell it from forgeries (RFC 6376). The key is the one of
// the domain in the From field; several keys of a domain make several signatures. It belongs at the end of the chain:
// whatever edits the message behind it breaks what it wrote.
import {
  definePlugin,
  duration,
  type Edit,
  fieldsToSign,
  type HeaderList,
  type Host,
  type Message,
  type MessageAnswer,
  mailboxesOf,
  parseAddressList,
  parseDomain,
  pass,
  relaxedBodyHash,
  signatureAlgorithm,
  signedValue,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { readKey, type SigningKey } from './signing-key.ts';

const names = () =>
  z.array(
    z
      .string()
      .toLowerCase()
      .regex(/^[\x21-\x39\x3b-\x7e]+$/, 'Expected a header field name'),
  );

const options = z.strictObject({
  keys: z
    .array(
      z.strictObject({
        domain: z
          .string()
          .toLowerCase()
          .describe('Domain that signs (`d=`): mail whose From field names it gets its signature.'),
        selector: z
          .string()
          .regex(
            /^[A-Za-z0-9]([\w-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([\w-]*[A-Za-z0-9])?)*$/,
            'Expected a selector such as 2026a',
          )
          .describe('Name of the key (`s=`): it is published at SELECTOR._domainkey.DOMAIN.'),
        key: z
          .string()
          .min(1)
          .meta({ kind: 'path' })
          .describe('PEM file of the private key, RSA or Ed25519, as `postern dkim keygen` makes it.'),
      }),
    )
    .default([])
    .describe('Keys. Several of one domain make several signatures, such as RSA and Ed25519.'),
  subdomains: z.boolean().default(true).describe('Sign for subdomains of these domains too.'),
  headers: names()
    .default([
      'from', 'sender', 'reply-to', 'subject', 'date', 'message-id', 'to', 'cc', 'mime-version', 'content-type', 'content-transfer-encoding', 'in-reply-to', 'references', 'list-id', 'list-unsubscribe', 'list-unsubscribe-post', 'list-post', 'autocrypt',
    ]) // biome-ignore format: a list
    .describe('Fields that are signed where they are present; From always is.'),
  oversign: names()
    .default([
      'from',
      'reply-to',
      'subject',
      'date',
      'message-id',
      'to',
      'cc',
      'mime-version',
      'content-type',
      'content-transfer-encoding',
    ])
    .describe('Fields of which nobody may add another one behind us (RFC 6376 §8.15).'),
  expire: duration()
    .optional()
    .describe('How long the signature is valid (`x=`); without it for ever. Mail may lie in queues for days.'),
});
type Options = z.infer<typeof options>;

/** The one domain of the From field; undefined where there are several, or none. */
function authorDomain(headers: HeaderList): string | undefined {
  const [field, ...more] = headers.all('from');
  if (!field || more.length > 0) return undefined;
  const domains = new Set(mailboxesOf(parseAddressList(field.value)).map(({ domain }) => parseDomain(domain)));
  const [domain] = domains;
  return domains.size === 1 ? domain : undefined;
}

function createSigner(settings: Options, keys: readonly SigningKey[], host: Host) {
  const oversigned = new Set([...settings.oversign, 'from']);
  const listed = [...new Set(['from', ...settings.headers, ...settings.oversign])];

  const isOurs = (at: WithMessage): boolean =>
    at.identity !== undefined || at.session.role === 'submission' || host.isRelayClient(at.session.remote.address);

  /** Keys of the domain itself, or of the nearest one above it. */
  function keysOf(domain: string): readonly SigningKey[] {
    for (let name = domain; name.includes('.'); name = name.slice(name.indexOf('.') + 1)) {
      const found = keys.filter(key => key.domain === name);
      if (found.length > 0 || !settings.subdomains) return found;
    }
    return [];
  }

  /** Fields to add for the domain in the From field, and whose they are. */
  async function sign(message: Message, signal: AbortSignal) {
    const { headers } = message;
    const domain = authorDomain(headers);
    const chosen = domain === undefined ? [] : keysOf(domain);
    // A header that was not read to its end cannot be signed so that others agree.
    const unread = headers.defects.some(defect => defect !== 'malformed-field');
    if (chosen.length === 0 || unread) return undefined;
    const bodyHash = await relaxedBodyHash(message, signal);
    const fields = fieldsToSign(headers, listed, oversigned);
    const now = Math.floor(host.clock.now() / 1000);
    const edits = chosen.map((key): Edit => {
      const tags: readonly (readonly [string, string])[] = [
        ['v', '1'],
        ['a', signatureAlgorithm(key.privateKey)],
        ['c', 'relaxed/relaxed'],
        ['d', key.domain],
        ['s', key.selector],
        ['t', String(now)],
        ...(settings.expire === undefined ? [] : [['x', String(now + Math.ceil(settings.expire / 1000))] as const]),
        ['h', fields.names.join(':')],
        ['bh', bodyHash],
      ];
      const value = signedValue('DKIM-Signature', tags, fields.canonical, key.privateKey);
      return { kind: 'add-header', name: 'DKIM-Signature', value };
    });
    return { edits, signed: chosen.map(key => `${key.domain} ${key.selector}`) };
  }

  return {
    async message(at: WithMessage): Promise<MessageAnswer> {
      const found = isOurs(at) ? await sign(at.message, at.signal) : undefined;
      if (!found) return pass;
      at.evidence({ signed: found.signed });
      return { ...pass, edits: found.edits };
    },
    // What the gateway makes itself is ours.
    sign: async (message: Message, signal: AbortSignal) => (await sign(message, signal))?.edits ?? [],
  };
}

export const dkimSign = definePlugin({
  name: 'dkim-sign',
  doc: 'Signs mail of our own users and machines with the keys of the domain in the From field (DKIM).',
  options,
  async setup(settings, host) {
    const keys = await Promise.all(settings.keys.map(key => readKey(key, host)));
    if (keys.length === 0) return {};
    return {
      ...createSigner(settings, keys, host),
      /** Whether each key stands in the DNS as it should. */
      async status() {
        const states = await Promise.all(
          keys.map(async key => [`${key.selector}._domainkey.${key.domain}`, await key.published()]),
        );
        return Object.fromEntries(states) as Record<string, string>;
      },
    };
  },
});
