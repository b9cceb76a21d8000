// Marks mail from outside: a text above what was written, a tag before the subject, a field for mail programs and rules.
// The field is always right. Text and tag change what a signature covers, so they are left out where there is one, unless
// the operator says otherwise.
import {
  decodeWords,
  definePlugin,
  type Edit,
  editParts,
  encodeRest,
  encodeWords,
  fieldText,
  findSeals,
  glob,
  type Host,
  type MessageAnswer,
  type MimePart,
  type PartChange,
  pass,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { type Banner, escapeHtml, insertBanner } from './insert.ts';

const patterns = (what: string) => z.array(z.string().max(500)).default([]).describe(what);

const options = z.strictObject({
  text: z
    .string()
    .max(4000)
    .default('')
    .describe('Text for text/plain, several lines if wanted; `{sender}` is the envelope sender. Empty: no text.'),
  html: z.string().max(20_000).optional().describe('The same for text/html, as HTML; default: `text` in a box.'),
  position: z.enum(['top', 'bottom']).default('top').describe('Above or below what was written.'),
  subject: z
    .string()
    .max(100)
    .regex(/^[^\r\n]*$/, 'Expected one line')
    .default('')
    .describe('Put before the subject, such as `[EXTERNAL]`. Empty: nothing.'),
  header: z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{0,70}$/, 'Expected a header field name')
    .default('X-External-Sender')
    .describe('Field with the value `yes`, which breaks no signature; one that came along is removed. Empty: none.'),
  exceptSenders: patterns('Envelope senders whose mail is not marked, such as `*@partner.example`.'),
  recipients: z
    .array(z.string().max(500))
    .optional()
    .describe('Only where one of the recipients is such a one, such as `*@example.org`.'),
  sealed: z
    .enum(['never', 'dkim', 'always'])
    .default('never')
    .describe(
      'Whether text and subject of signed mail are changed: never, also under DKIM and ARC signatures (which then fail behind us), or even under S/MIME and PGP.',
    ),
  maxSize: z.number().int().positive().default(2_000_000).describe('Text parts of more bytes are left as they are.'),
});
type Options = z.infer<typeof options>;

/** Texts that are shown: of a multipart/alternative each, of others the first; never what is attached. */
function shownTexts(part: MimePart): readonly MimePart[] {
  const { type, subtype } = part.contentType;
  if (part.disposition?.type === 'attachment') return [];
  if (type === 'text') return subtype === 'plain' || subtype === 'html' ? [part] : [];
  // A report is for programs (RFC 6522).
  if (type !== 'multipart' || subtype === 'report') return [];
  if (subtype === 'alternative') return part.parts.flatMap(shownTexts);
  const [first] = part.parts;
  return first ? shownTexts(first) : [];
}

const boxed = (text: string): string =>
  `<div style="margin:0 0 1em;padding:.5em 1em;border-left:4px solid #c60;background:#fff4e5;color:#000;font:14px sans-serif">${escapeHtml(text.trim()).replace(/\r?\n/g, '<br>')}</div>`;

function createMarker(settings: Options, host: Host) {
  const except = settings.exceptSenders.map(glob);
  const recipients = settings.recipients?.map(glob);
  const changes = settings.text.trim() !== '' || settings.subject !== '' || settings.html !== undefined;

  function concerns(at: WithMessage): boolean {
    if (at.identity !== undefined || host.isRelayClient(at.session.remote.address)) return false;
    if (except.some(fits => fits(at.envelope.sender?.text ?? ''))) return false;
    return !recipients || at.envelope.recipients.some(({ address }) => recipients.some(fits => fits(address.text)));
  }

  async function seal(at: WithMessage): Promise<string | undefined> {
    if (settings.sealed === 'always') return undefined;
    const seals = await findSeals(at.message);
    if (seals.endToEnd) return 'S/MIME or PGP';
    return seals.dkim && settings.sealed === 'never' ? 'DKIM' : undefined;
  }

  function bannerFor(at: WithMessage): Banner {
    const text = settings.text.replaceAll('{sender}', at.envelope.sender?.text ?? '');
    const html = settings.html?.replaceAll('{sender}', escapeHtml(at.envelope.sender?.text ?? '')) ?? boxed(text);
    return { text, html, position: settings.position };
  }

  async function textEdits(at: WithMessage): Promise<readonly Edit[]> {
    if (settings.text.trim() === '' && settings.html === undefined) return [];
    const banner = bannerFor(at);
    const found: PartChange[] = [];
    for (const part of shownTexts(await at.message.mime())) {
      if (part.contentType.subtype === 'plain' && banner.text.trim() === '') continue;
      const change = await insertBanner(at.message.rope, part, banner, settings.maxSize);
      if (change) found.push(change);
    }
    return found.length > 0 ? editParts(at.message, found) : [];
  }

  function subjectEdits({ message }: WithMessage): readonly Edit[] {
    const { subject } = settings;
    if (subject === '') return [];
    const field = message.headers.get('subject');
    const before = field ? fieldText(field) : '';
    if (decodeWords(before).includes(subject)) return [];
    const value = `${encodeWords(subject)} ${encodeRest(before)}`.trimEnd();
    return [{ kind: 'replace-header', name: 'Subject', value, encoded: true, ...(field && { index: 0 }) }];
  }

  async function message(at: WithMessage): Promise<MessageAnswer> {
    const { header } = settings;
    const edits: Edit[] = [];
    if (header !== '' && at.message.headers.has(header)) edits.push({ kind: 'remove-header', name: header });
    if (concerns(at)) {
      if (header !== '') edits.push({ kind: 'add-header', name: header, value: 'yes' });
      const sealedBy = changes ? await seal(at) : undefined;
      if (sealedBy !== undefined) at.evidence({ unchanged: sealedBy });
      else edits.push(...subjectEdits(at), ...(await textEdits(at)));
    }
    return edits.length > 0 ? { ...pass, edits } : pass;
  }
  return { message };
}

export const banner = definePlugin({
  name: 'banner',
  doc: 'Marks mail from outside by a text above it, a tag in the subject and a header field, without breaking signatures.',
  options,
  setup: createMarker,
});
