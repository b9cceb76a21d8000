// What is inside Office's files: macros, passwords, programs that were embedded, attachments of saved messages. MS-DOC,
// MS-XLS, MS-OFFCRYPTO, MS-OVBA, MS-OXMSG, as far as these questions need.
import { CompoundFile, type Entry } from './compound-file.ts';
import type { Kind } from './kinds.ts';

export interface Embedded {
  readonly name: string;
  readonly bytes: Buffer;
}
export interface OfficeFacts {
  readonly type: string;
  readonly kinds: readonly Kind[];
  readonly embedded: readonly Embedded[];
}

const lastName = (entry: Entry): string => entry.path.slice(entry.path.lastIndexOf('/') + 1).toLowerCase();

/** BIFF records of the workbook's globals: a password, and sheets that hold Excel 4.0 macros. */
function workbookKinds(stream: Buffer): readonly Kind[] {
  const kinds = new Set<Kind>();
  for (let at = 0, count = 0; at + 4 <= stream.length && count < 20_000; count++) {
    const type = stream.readUInt16LE(at);
    const length = stream.readUInt16LE(at + 2);
    // FILEPASS
    if (type === 0x2f) kinds.add('encrypted');
    // BOUNDSHEET8, whose dt says 1 for a macro sheet
    if (type === 0x85 && length >= 6 && stream[at + 9] === 1) kinds.add('macro');
    // EOF of the globals
    if (type === 0x0a) break;
    at += 4 + length;
  }
  return [...kinds];
}

/** Label, file name, path and data, the strings ending with NUL. */
function packagedFile(stream: Buffer): Embedded | undefined {
  let at = 6;
  const text = (): string => {
    const end = stream.indexOf(0, at);
    const value = stream.toString('latin1', at, end < 0 ? stream.length : end);
    at = end < 0 ? stream.length : end + 1;
    return value;
  };
  const label = text();
  const name = text();
  at += 8;
  text();
  if (at + 4 > stream.length) return undefined;
  const size = stream.readUInt32LE(at);
  return { name: label || name, bytes: stream.subarray(at + 4, at + 4 + size) };
}

/** A message that Outlook saved: `__attach_version1.0_#…/__substg1.0_37010102` holds the bytes, 3707 and 3704 the names. */
function savedAttachments(file: CompoundFile, maxBytes: number): readonly Embedded[] {
  const byFolder = new Map<string, Map<string, Entry>>();
  for (const entry of file.entries) {
    const match = /^(.*__attach_version1\.0_#[^/]*)\/__substg1\.0_(\w{8})$/i.exec(entry.path);
    if (!match) continue;
    const [, folder = '', property = ''] = match;
    const properties = byFolder.get(folder) ?? new Map<string, Entry>();
    byFolder.set(folder, properties.set(property.toUpperCase(), entry));
  }
  const found: Embedded[] = [];
  for (const properties of byFolder.values()) {
    const text = (property: string, encoding: 'utf16le' | 'latin1'): string | undefined => {
      const entry = properties.get(property);
      return entry && file.read(entry, 1000).toString(encoding);
    };
    const data = properties.get('37010102');
    const name =
      text('3707001F', 'utf16le') ??
      text('3707001E', 'latin1') ??
      text('3704001F', 'utf16le') ??
      text('3704001E', 'latin1');
    if (data) found.push({ name: name ?? '', bytes: file.read(data, maxBytes) });
  }
  return found;
}

/** Classes of Windows Installer packages, patches and transforms: {000C1084…}, {000C1086…}, {000C1082…}. */
const isInstaller = (rootClass: Buffer): boolean =>
  /^(?:84|86|82)100c0000000000c000000000000046$/.test(rootClass.toString('hex'));

/** Throws CompoundFileError. `maxBytes`: of what is embedded, together. */
export function readOffice(bytes: Buffer, maxBytes: number): OfficeFacts {
  const file = new CompoundFile(bytes);
  const named = new Map(file.entries.map(entry => [lastName(entry), entry]));
  const kinds = new Set<Kind>();
  const storages = file.entries.filter(entry => !entry.isStream).map(lastName);
  if (storages.includes('vba') || named.has('_vba_project') || storages.includes('_vba_project_cur'))
    kinds.add('macro');
  if (named.has('encryptedpackage') || named.has('encryptedsummary')) kinds.add('encrypted');
  let type = 'application/x-ole-storage';
  const word = named.get('worddocument');
  const book = named.get('workbook') ?? named.get('book');
  if (word) {
    type = 'application/msword';
    // FIB base: flag fEncrypted
    if (((file.read(word, 12)[11] ?? 0) & 1) !== 0) kinds.add('encrypted');
  } else if (book) {
    type = 'application/vnd.ms-excel';
    for (const kind of workbookKinds(file.read(book, 2_000_000))) kinds.add(kind);
  } else if (named.has('powerpoint document')) type = 'application/vnd.ms-powerpoint';
  else if (named.has('__properties_version1.0')) type = 'application/vnd.ms-outlook';
  else if (isInstaller(file.rootClass)) {
    type = 'application/x-msi';
    kinds.add('executable');
  }
  const embedded: Embedded[] = [];
  let left = maxBytes;
  for (const entry of file.entries) {
    if (lastName(entry) !== '\x01ole10native' || left <= 0) continue;
    const packaged = packagedFile(file.read(entry, left));
    if (packaged) embedded.push(packaged);
    left -= packaged?.bytes.length ?? 0;
  }
  for (const saved of savedAttachments(file, Math.max(left, 0))) embedded.push(saved);
  return { type, kinds: [...kinds], embedded };
}

/** Names of a zip that make it an Office document, and which; undefined where it is none. */
export function packageType(names: readonly string[]): string | undefined {
  const lower = names.map(name => name.toLowerCase());
  if (lower.includes('[content_types].xml')) {
    const has = (folder: string): boolean => lower.some(name => name.startsWith(folder));
    if (has('word/')) return 'application/vnd.openxmlformats-officedocument.wordprocessingml.document';
    if (has('xl/')) return 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';
    if (has('ppt/')) return 'application/vnd.openxmlformats-officedocument.presentationml.presentation';
    return undefined;
  }
  return lower[0] === 'mimetype' && lower.includes('meta-inf/manifest.xml')
    ? 'application/vnd.oasis.opendocument'
    : undefined;
}

/** Macros of OOXML and OpenDocument by the names of their parts. */
export const isMacroPart = (name: string): boolean =>
  /(?:^|\/)vbaproject\.bin$|^xl\/macrosheets\/|^basic\/.*\.xml$|^scripts\//i.test(name) &&
  !/^basic\/script-lc\.xml$/i.test(name);

/** `[Content_Types].xml` names the sort of each part: a renamed `vbaProject.bin` is found by it. */
export const namesMacros = (contentTypes: string): boolean =>
  /application\/vnd\.ms-office\.vbaProject|macroEnabled|ms-excel\.(?:intl)?macrosheet/i.test(contentTypes);
