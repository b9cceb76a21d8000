// Attachments by what they are: each part of a message is looked at by name and by content, and what is an archive, a saved
// message or an Office document is taken apart in a thread of its own. What is found meets rules; the strictest action
// that a rule calls for is taken. A message that cannot be looked through is not thereby harmless: limits are a finding.
import {
  decodeBody,
  definePlugin,
  type Edit,
  findSeals,
  type Host,
  type MessageAnswer,
  type MimePart,
  partNames,
  pass,
  quarantine,
  reject,
  type WithMessage,
  walkParts,
} from '../../core/plugin/index.ts';
import { contradicts, detect, sampleBytes } from './detect.ts';
import { containerOf, isLeaf, itemOf } from './inspect.ts';
import type { InspectLimits, Item, Kind } from './kinds.ts';
import { extensionOf, shownName } from './names.ts';
import { type Action, type Options, options } from './options.ts';
import { createPolicy, type Judge, strictest } from './policy.ts';
import { replaceParts } from './replace.ts';
import { type AttachmentFound, attachmentsFound } from './results.ts';
import { openUnpackers, type Unpackers } from './unpackers.ts';

/** What was found in one part of the message. */
interface Looked {
  readonly part: MimePart;
  readonly items: readonly Item[];
}

interface Decided {
  readonly part: MimePart;
  readonly item: Item;
  readonly action: Action | undefined;
}

/** What is left of the time for one message. */
interface Time {
  leftMs: number;
}

const maxListed = 30;
/** Programs of old put files between the lines of a text. */
const uuencoded = /^begin(?:-base64)? [0-7]{3,4} (.{1,200})$/gm;

const withKinds = (item: Item, kinds: readonly Kind[], why: string): Item => ({
  ...item,
  kinds: [...new Set([...item.kinds, ...kinds])],
  why: item.why ?? why,
});

class Looker {
  readonly #settings: Options;
  readonly #limits: InspectLimits;
  readonly #unpackers: Unpackers;

  constructor(settings: Options, unpackers: Unpackers) {
    this.#settings = settings;
    this.#unpackers = unpackers;
    const { maxDepth, maxFiles, maxUnpacked } = settings;
    this.#limits = { maxDepth, maxFiles, maxUnpacked };
  }

  async look(at: WithMessage): Promise<readonly Looked[]> {
    const mime = await at.message.mime();
    const time: Time = { leftMs: this.#settings.unpackTimeout };
    const looked: Looked[] = [];
    for (const part of walkParts(mime)) {
      if (part.defects.includes('too-deep') || part.defects.includes('too-many-parts'))
        looked.push({
          part,
          items: [withKinds(itemOf(['message'], '', { type: 'message/rfc822' }, 0), ['limit'], 'Too many parts')],
        });
      if (!isLeaf(part)) continue;
      const items = await this.#part(at, part, time);
      if (items.length > 0) looked.push({ part, items });
    }
    return looked;
  }

  async #part(at: WithMessage, part: MimePart, time: Time): Promise<readonly Item[]> {
    const { rope } = at.message;
    const names = partNames(part);
    const { type, subtype } = part.contentType;
    const head = await decodeBody(rope, part, sampleBytes);
    if (type === 'text' && names.length === 0 && part.encoding !== 'base64') return inText(head);
    const detected = detect(head);
    const item = itemOf(names, '', detected, 0);
    const isMessage = type === 'message' && (subtype === 'rfc822' || subtype === 'global');
    const container = isMessage ? 'message' : containerOf(detected, names);
    const { maxSize } = this.#settings;
    if (!container) {
      const wrong = names.map(extensionOf).find(extension => contradicts(extension, item.type));
      return [wrong === undefined ? item : withKinds(item, ['mismatch'], `.${wrong} is ${item.type}`)];
    }
    const bytes = await decodeBody(rope, part, maxSize + 1);
    if (bytes.length > maxSize) return [withKinds(item, ['limit'], 'Too large to be taken apart')];
    if (time.leftMs <= 0) return [withKinds(item, ['limit'], 'Not taken apart in time')];
    const unpacked = await this.#unpackers.unpack(
      { bytes, names, container, limits: this.#limits },
      time.leftMs,
      at.signal,
    );
    time.leftMs -= unpacked.kind === 'items' ? unpacked.ms : time.leftMs;
    return unpacked.kind === 'items' ? unpacked.items : [withKinds(item, ['limit'], unpacked.why)];
  }
}

function inText(head: Buffer): readonly Item[] {
  const text = head.toString('latin1');
  if (!text.includes('begin')) return [];
  return [...text.matchAll(uuencoded)].map(([, name = '']) =>
    itemOf([name.trim()], '', { type: 'application/octet-stream' }, 0),
  );
}

const describe = ({ path, kinds, why, type }: Item): string =>
  `${path}: ${kinds.length > 0 ? kinds.join(', ') : type}${why === undefined ? '' : ` (${why})`}`;

function decide(looked: readonly Looked[], judge: Judge): readonly Decided[] {
  return looked.flatMap(({ part, items }) =>
    items.map(item => {
      const { type, subtype } = part.contentType;
      const action = judge(item.depth === 0 ? { item, claimed: `${type}/${subtype}` } : { item });
      return { part, item, action };
    }),
  );
}

/** Field of the message: what was found, in ASCII, short. */
function statusField(name: string, decided: readonly Decided[]): Edit {
  const value = decided
    .slice(0, maxListed)
    .map(
      ({ item, action }) =>
        `${action} ${(item.kinds.length > 0 ? item.kinds : [item.type]).join('+')} "${item.path.replace(/["\\]/g, '_')}"`,
    )
    .join('; ')
    .replace(/[^\x20-\x7e]/g, '?');
  return { kind: 'add-header', name, value: value.slice(0, 900) };
}

function createFilter(settings: Options, host: Host, unpackers: Unpackers) {
  const looker = new Looker(settings, unpackers);
  const policy = createPolicy(settings.rules, host);

  /** May the message be changed, or what stands against it? */
  async function obstacle(at: WithMessage): Promise<string | undefined> {
    if (settings.stripSealed === 'always') return undefined;
    const seals = await findSeals(at.message);
    if (seals.endToEnd) return 'S/MIME or PGP';
    return seals.dkim && settings.stripSealed === 'never' ? 'DKIM' : undefined;
  }

  function strip(at: WithMessage, decided: readonly Decided[]): readonly Edit[] {
    const parts = new Map<MimePart, Decided[]>();
    for (const each of decided) parts.set(each.part, [...(parts.get(each.part) ?? []), each]);
    const replacements = [...parts].map(([part, reasons]) => {
      const values: Readonly<Record<string, string>> = {
        name: shownName(partNames(part)[0] ?? ''),
        reason: reasons
          .slice(0, 5)
          .map(({ item }) => describe(item))
          .join('; '),
        id: at.id,
        gateway: host.hostname,
      };
      return { part, text: settings.note.replace(/\{(\w+)\}/g, (whole, key: string) => values[key] ?? whole) };
    });
    const why = `Attachment stripped: ${describe(decided[0]?.item as Item)}`;
    return [
      ...replaceParts(at.message, replacements),
      ...(settings.keepOriginal ? [{ kind: 'quarantine-original', why, reason: 'attachment' } as const] : []),
    ];
  }

  async function act(at: WithMessage, decided: readonly Decided[]): Promise<MessageAnswer> {
    const by = (action: Action): readonly Decided[] => decided.filter(each => each.action === action);
    const worst = strictest(decided.map(each => each.action));
    const why = (list: readonly Decided[]): string =>
      `Attachment ${list
        .slice(0, 5)
        .map(({ item }) => describe(item))
        .join('; ')}`;
    if (worst === 'reject') return reject({ code: 550, enhanced: '5.7.1', text: settings.text }, why(by('reject')));
    const stripped = by('strip');
    const field = settings.header;
    const marked = [...by('tag'), ...stripped];
    const edits: Edit[] = [];
    if (field !== '' && at.message.headers.has(field)) edits.push({ kind: 'remove-header', name: field });
    if (field !== '' && marked.length > 0) edits.push(statusField(field, marked));
    if (worst === 'quarantine') return { ...quarantine(why(by('quarantine')), 'attachment'), edits };
    if (stripped.length > 0) {
      const seal = await obstacle(at);
      if (seal !== undefined) {
        const verdict = quarantine(`${why(stripped)}; not stripped: ${seal}`, 'attachment');
        return { ...verdict, edits };
      }
      edits.push(...strip(at, stripped));
    }
    return edits.length > 0 ? { ...pass, edits } : pass;
  }

  async function message(at: WithMessage): Promise<MessageAnswer> {
    const decided = decide(await looker.look(at), policy(at));
    const worthy = decided.filter(({ item, action }) => action !== undefined || item.kinds.length > 0);
    if (worthy.length > 0) {
      at.evidence({
        found: worthy.slice(0, maxListed).map(({ item, action }) => `${describe(item)}${action ? `: ${action}` : ''}`),
      });
      at.set(
        attachmentsFound,
        worthy.map(({ item: { path, type, kinds }, action }): AttachmentFound => ({ path, type, kinds, action })),
      );
    }
    return act(at, decided);
  }
  return { message };
}

export const attachments = definePlugin({
  name: 'attachments',
  doc: 'Refuses, quarantines, strips or tags attachments by content and name, also inside archives, messages and documents.',
  options,
  writes: [attachmentsFound],
  setup(settings, host) {
    const unpackers = openUnpackers(settings.threads, host.clock);
    return { ...createFilter(settings, host, unpackers), close: () => unpackers.close() };
  },
});
