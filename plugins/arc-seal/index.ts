// Seals mail that passes through to somewhere else (RFC 8617), so that the next hop can see what `mail-auth` saw here, although our
// passing it on, or editing it, breaks SPF and perhaps DKIM. At the very end of the chain, behind `mail-auth`.
import { readFile } from 'node:fs/promises';
import {
  definePlugin,
  type MessageAnswer,
  parseSigningKey,
  pass,
  publishesKey,
  relaxedBodyHash,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { arc, authResults } from '../mail-auth/results.ts';
import { makeArcSet, nextInstance } from './arc-set.ts';

const options = z.strictObject({
  domain: z.string().toLowerCase().describe('Domain that seals (`d=`).'),
  selector: z.string().min(1).describe('Name of its key (`s=`), published like a DKIM key.'),
  key: z
    .string()
    .min(1)
    .meta({ kind: 'path' })
    .describe('PEM file of the private key, as `postern dkim keygen` makes it; a DKIM key may serve for both.'),
  when: z
    .enum(['relayed', 'always'])
    .default('relayed')
    .describe('Seal what goes on to somewhere else, or what stays in local mailboxes too.'),
  authservId: z
    .string()
    .regex(/^[\w.-]+$/, 'Expected a name such as mx.example.org')
    .optional()
    .describe('Name under which results are written; as in `mail-auth`. Default: the hostname.'),
});

export const arcSeal = definePlugin({
  name: 'arc-seal',
  doc: 'Seals mail that passes through, so that the next hop can see what was verified here (ARC).',
  options,
  reads: [arc, authResults],
  async setup(settings, host) {
    const file = host.resolvePath(settings.key);
    const pem = await readFile(file, 'utf8').catch((cause: Error) => {
      throw new Error(`Cannot read the key '${file}': ${cause.message}`, { cause });
    });
    const key = parseSigningKey(pem, file);
    const { domain, selector } = settings;

    const leaves = (at: WithMessage): boolean =>
      settings.when === 'always' ||
      at.envelope.recipients.some(({ address }) => host.mailboxes.domainKind(address.domain) !== 'local');

    async function message(at: WithMessage): Promise<MessageAnswer> {
      // Nothing was verified of mail of our own; `dkim-sign` signs that.
      const results = at.get(authResults);
      const chain = at.get(arc);
      const { headers } = at.message;
      const unread = headers.defects.some(defect => defect !== 'malformed-field');
      if (!results || !chain || unread || !headers.has('from') || !leaves(at)) return pass;
      const instance = nextInstance(headers, chain.result);
      if (instance === undefined) return pass;
      const fields = makeArcSet({
        headers,
        bodyHash: await relaxedBodyHash(at.message, at.signal),
        status: chain.result,
        instance,
        authservId: settings.authservId ?? host.hostname,
        results,
        domain,
        selector,
        key,
        now: Math.floor(host.clock.now() / 1000),
      });
      if (!fields) return pass;
      at.evidence({ sealed: instance, chain: chain.result });
      return { ...pass, edits: fields.map(([name, value]) => ({ kind: 'add-header', name, value })) };
    }

    return {
      message,
      async status() {
        const answer = await host.dns.txt(`${selector}._domainkey.${domain}`);
        const published = answer.kind === 'found' && answer.records.some(record => publishesKey(record, key));
        return { [`${selector}._domainkey.${domain}`]: published ? 'published' : 'not published' };
      },
    };
  },
});
