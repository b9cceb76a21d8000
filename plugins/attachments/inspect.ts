// Takes an attachment apart, as deep as the limits allow: archives in archives, saved messages, Office documents. What it
// finds is a flat list. Nothing that a file contains makes it throw, and each limit counts for the whole attachment.
import { gunzipSync } from 'node:zlib';
import { bufferRope, decodeBody, type MimePart, parseMime, partNames, walkParts } from '../../core/plugin/index.ts';
import type { ArchiveEntry, Archives } from './archive.ts';
import { type Container, contradicts, type Detected, detect, sampleBytes } from './detect.ts';
import type { InspectLimits, Item, Kind } from './kinds.ts';
import { extensionOf, kindsByName, shownName } from './names.ts';
import { isMacroPart, namesMacros, packageType, readOffice } from './office.ts';
import { asRecord, contentOf } from './packed.ts';
import { readTnef } from './tnef.ts';
import { type ZipFault, zipFault } from './zip-layout.ts';

/** Most bytes of containers inside one container that are held at a time. */
const maxNested = 64 * 1024 * 1024;
const readStep = 1024 * 1024;
const maxContentTypes = 1024 * 1024;

interface Draft extends Item {
  readonly kinds: Kind[];
  type: string;
  why?: string;
}

interface Child {
  readonly name: string;
  readonly detected: Detected;
  /** The whole file, where it is to be taken apart. */
  readonly bytes?: Buffer | undefined;
  readonly kinds: readonly Kind[];
  readonly why?: string;
}

const archiveNames = /^(?:zip|7z|rar|tar|cab|iso|img|lzh|lha|cpio|jar|apk)$/;
const messageNames = /^(?:eml|mht|mhtml|nws)$/;

/** How a file is taken apart, by content or by the claim of its name. */
export function containerOf({ container }: Detected, names: readonly string[]): Container | undefined {
  if (container) return container;
  const extensions = names.map(extensionOf);
  if (extensions.some(extension => messageNames.test(extension))) return 'message';
  return extensions.some(extension => archiveNames.test(extension)) ? 'archive' : undefined;
}

const add = (draft: Draft, kind: Kind, why?: string): void => {
  if (!draft.kinds.includes(kind)) draft.kinds.push(kind);
  if (why !== undefined) draft.why ??= why.slice(0, 200);
};

/** What the name and the beginning of a file say. */
export function itemOf(names: readonly string[], parent: string, detected: Detected, depth: number): Draft {
  const path = `${parent}${shownName(names[0] ?? '')}`.slice(-500);
  const draft: Draft = { path, names, type: detected.type, kinds: [], depth };
  if (detected.kind) add(draft, detected.kind);
  for (const kind of names.flatMap(kindsByName)) add(draft, kind);
  return draft;
}

function checkName(draft: Draft): void {
  const extension = draft.names.map(extensionOf).find(known => contradicts(known, draft.type));
  if (extension !== undefined) add(draft, 'mismatch', `.${extension} is ${draft.type}`);
}

export class Inspection {
  readonly items: Item[] = [];
  readonly #archives: Archives;
  readonly #limits: InspectLimits;
  #files = 0;
  #unpacked = 0;

  constructor(archives: Archives, limits: InspectLimits) {
    this.#archives = archives;
    this.#limits = limits;
  }

  async file(bytes: Buffer, names: readonly string[], parent: string, depth: number, as?: Container): Promise<void> {
    const detected = detect(bytes.subarray(0, sampleBytes));
    const draft = itemOf(names, parent, detected, depth);
    this.items.push(draft);
    const container = as ?? containerOf(detected, names);
    if (container && depth >= this.#limits.maxDepth) add(draft, 'limit', 'Nested too deep');
    else if (container)
      try {
        await this.#open(container, bytes, draft);
      } catch (error) {
        add(draft, 'unreadable', error instanceof Error ? error.message : String(error));
      }
    checkName(draft);
  }

  #open(container: Container, bytes: Buffer, draft: Draft): Promise<void> {
    switch (container) {
      case 'archive':
        return this.#archive(bytes, draft);
      case 'gzip':
        return this.#gzip(bytes, draft);
      case 'packed':
        return this.#packed(bytes, draft);
      case 'ole':
        return this.#office(bytes, draft);
      case 'tnef':
        return this.#tnef(bytes, draft);
      case 'message':
        return this.#message(bytes, draft);
    }
  }

  get #left(): number {
    return this.#limits.maxUnpacked - this.#unpacked;
  }

  /** Counts a file; false once there are too many. */
  #count(draft: Draft): boolean {
    if (++this.#files <= this.#limits.maxFiles) return true;
    add(draft, 'limit', 'Too many files');
    return false;
  }

  async #archive(bytes: Buffer, draft: Draft): Promise<void> {
    if (this.#zipFaults(bytes, draft) === 'overlap') return;
    const children: Child[] = [];
    let held = 0;
    let macros = false;
    const end = await this.#archives(bytes, entry => {
      if (!this.#count(draft)) return false;
      if (!entry.isFile) return true;
      if (entry.isEncrypted) add(draft, 'encrypted');
      if (entry.size > this.#left) {
        add(draft, 'limit', 'Too large unpacked');
        return false;
      }
      if (isMacroPart(entry.name)) macros = true;
      const child = this.#child(entry, maxNested - held, found => containerOf(found, [entry.name]) !== undefined);
      held += child.bytes?.length ?? 0;
      if (child.bytes && child.name.toLowerCase() === '[content_types].xml')
        macros ||= namesMacros(child.bytes.toString('latin1'));
      children.push(child);
      return this.#left > 0;
    });
    if (this.#left <= 0) add(draft, 'limit', 'Too large unpacked');
    if (end.encrypted) add(draft, 'encrypted');
    else if (!draft.kinds.includes('limit') && (end.fault !== undefined || children.length === 0))
      this.#broken(bytes, draft, end.fault);
    const office = draft.type === 'application/zip' ? packageType(children.map(({ name }) => name)) : undefined;
    if (office !== undefined) {
      draft.type = office;
      draft.kinds.splice(0, draft.kinds.length, ...draft.kinds.filter(kind => kind !== 'archive'));
      if (macros) add(draft, 'macro');
    }
    await this.#descend(children, draft, office !== undefined);
  }

  #child(entry: ArchiveEntry, room: number, isWanted: (detected: Detected) => boolean): Child {
    const { name } = entry;
    const unknown: Detected = { type: 'application/octet-stream' };
    if (entry.isEncrypted) return { name, detected: unknown, kinds: ['encrypted'] };
    try {
      const head = this.#read(entry, sampleBytes);
      const detected = detect(head);
      const isIndex = name.toLowerCase() === '[content_types].xml';
      if (!isIndex && !isWanted(detected)) return { name, detected, kinds: [] };
      const limit = Math.min(isIndex ? maxContentTypes : room, this.#left + head.length);
      const pieces = [head];
      let size = head.length;
      for (let piece = head; piece.length > 0 && size <= limit; size += piece.length) {
        piece = this.#read(entry, readStep);
        pieces.push(piece);
      }
      if (size > limit) return { name, detected, kinds: ['limit'], why: 'Too large unpacked' };
      return { name, detected, bytes: Buffer.concat(pieces), kinds: [] };
    } catch (error) {
      return {
        name,
        detected: unknown,
        kinds: ['unreadable'],
        why: error instanceof Error ? error.message : String(error),
      };
    }
  }

  #read(entry: ArchiveEntry, bytes: number): Buffer {
    const piece = entry.read(bytes);
    this.#unpacked += piece.length;
    return piece;
  }

  /** One that could not be read to its end. */
  #broken(bytes: Buffer, draft: Draft, fault: string | undefined): void {
    const isEmptyZip = bytes.length === 22 && draft.type === 'application/zip';
    if (!isEmptyZip) add(draft, 'unreadable', fault ?? 'No file in it');
  }

  #zipFaults(bytes: Buffer, draft: Draft): ZipFault | undefined {
    if (draft.type !== 'application/zip') return undefined;
    const fault = zipFault(bytes, this.#limits.maxFiles);
    if (fault === 'overlap') add(draft, 'limit', 'Files overlap');
    else if (fault === 'hidden') add(draft, 'unreadable', 'Data in front of the first file');
    else if (fault) add(draft, 'unreadable', 'No central directory');
    return fault;
  }

  /** Of an Office document only what is worth a rule is listed. */
  async #descend(children: readonly Child[], draft: Draft, quiet: boolean): Promise<void> {
    for (const child of children) {
      const isIndex = child.name.toLowerCase() === '[content_types].xml';
      await this.#place(isIndex ? { ...child, bytes: undefined } : child, [child.name], draft, quiet);
    }
  }

  async #place(
    { detected, bytes, kinds, why }: Child,
    names: readonly string[],
    draft: Draft,
    quiet = false,
  ): Promise<void> {
    const parent = `${draft.path}/`;
    if (bytes) return this.file(bytes, names, parent, draft.depth + 1);
    const item = itemOf(names, parent, detected, draft.depth + 1);
    for (const kind of kinds) add(item, kind, why);
    checkName(item);
    if (!quiet || item.kinds.length > 0) this.items.push(item);
  }

  /** One file, or a tar, which is opened as an archive of its own sort: it may be larger than what is held. */
  async #packed(bytes: Buffer, draft: Draft): Promise<void> {
    if (!this.#count(draft)) return;
    const names = draft.names.map(unpackedName);
    const record = asRecord(draft.type, bytes);
    const files: Child[] = [];
    const end =
      record &&
      (await this.#archives(record, entry => {
        const content = contentOf(entry);
        const file = this.#child(content, maxNested, found => !isTar(found) && containerOf(found, names) !== undefined);
        files.push(file.bytes || file.kinds.length > 0 || isTar(file.detected) ? file : this.#unheld(content, file));
        return false;
      }));
    const [file] = files;
    const isUnknown = !file || (!file.bytes && file.detected.type === 'application/octet-stream');
    if ((file && isTar(file.detected)) || (isUnknown && (await this.#opens(bytes)))) {
      if (!names.some(name => extensionOf(name) === 'tar')) this.items.push(...innerName(draft));
      return this.#archive(bytes, draft);
    }
    if (this.#left <= 0) add(draft, 'limit', 'Too large unpacked');
    if (file) return this.#place(file, names, draft);
    add(draft, 'unreadable', record ? end?.fault : 'A format that is not looked into');
    this.items.push(...innerName(draft));
  }

  /** What is no container is unpacked all the same, and dropped: it may be a bomb, or break off. */
  #unheld(content: ArchiveEntry, file: Child): Child {
    try {
      while (this.#left > 0 && this.#read(content, readStep).length > 0);
      return this.#left > 0 ? file : { ...file, kinds: ['limit'], why: 'Too large unpacked' };
    } catch (error) {
      return { ...file, kinds: ['unreadable'], why: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Is there an archive in it that has no signature, such as a tar of old? */
  async #opens(bytes: Buffer): Promise<boolean> {
    let opens = false;
    await this.#archives(bytes, () => {
      opens = true;
      return false;
    });
    return opens;
  }

  async #gzip(bytes: Buffer, draft: Draft): Promise<void> {
    if (!this.#count(draft)) return;
    const maxOutputLength = Math.max(1, Math.min(maxNested, this.#left));
    let inner: Buffer;
    try {
      inner = gunzipSync(bytes, { maxOutputLength });
    } catch (error) {
      const tooLarge = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE';
      if (tooLarge) this.#unpacked += maxOutputLength;
      add(draft, tooLarge ? 'limit' : 'unreadable', tooLarge ? 'Too large unpacked' : (error as Error).message);
      this.items.push(...innerName(draft));
      return;
    }
    this.#unpacked += inner.length;
    await this.file(inner, draft.names.map(unpackedName), `${draft.path}/`, draft.depth + 1);
  }

  async #office(bytes: Buffer, draft: Draft): Promise<void> {
    const facts = readOffice(bytes, Math.min(maxNested, this.#left));
    draft.type = facts.type;
    for (const kind of facts.kinds) add(draft, kind);
    await this.#inner(facts.embedded, draft);
  }

  async #tnef(bytes: Buffer, draft: Draft): Promise<void> {
    const { files, whole } = readTnef(bytes);
    if (!whole) add(draft, 'unreadable', 'Breaks off');
    await this.#inner(files, draft);
  }

  async #inner(files: readonly { readonly name: string; readonly bytes: Buffer }[], draft: Draft): Promise<void> {
    for (const { name, bytes } of files) {
      if (!this.#count(draft)) return;
      this.#unpacked += bytes.length;
      await this.file(bytes, [name], `${draft.path}/`, draft.depth + 1);
    }
  }

  async #message(bytes: Buffer, draft: Draft): Promise<void> {
    const mime = await parseMime(bytes);
    const rope = bufferRope(bytes);
    for (const part of walkParts(mime)) {
      if (!isLeaf(part)) continue;
      if (!this.#count(draft)) return;
      const names = partNames(part);
      if (names.length === 0 && part.contentType.type === 'text') continue;
      const content = await decodeBody(rope, part, Math.max(0, this.#left));
      this.#unpacked += content.length;
      await this.file(content, names, `${draft.path}/`, draft.depth + 1);
    }
  }
}

/** Holds bytes of its own, not other parts. An encoded message/rfc822 counts, for its tree cannot be right. */
export const isLeaf = (part: MimePart): boolean =>
  part.parts.length === 0 && (!part.message || part.defects.includes('encoded-composite'));

const isTar = ({ type }: Detected): boolean => type === 'application/x-tar';

const unpackedName = (name: string): string =>
  name
    .replace(/\.(?:tgz|tbz2?|txz|tlz|tzst|taz)[. ]*$/i, '.tar')
    .replace(/\.(?:gz|bz2?|bzip2|xz|lzma|lz4?|zstd?|z)[. ]*$/i, '');

/** A packed file that cannot be looked into has at least a name. */
function innerName(draft: Draft): readonly Item[] {
  const names = draft.names.map(unpackedName);
  return names.every((name, at) => name === draft.names[at])
    ? []
    : [itemOf(names, `${draft.path}/`, { type: 'application/octet-stream' }, draft.depth + 1)];
}
