// The sort of a file by its content: a table of signatures, and for text by how it begins. Only looks, never unpacks.
import type { Kind } from './kinds.ts';

/** How it is taken apart. */
export type Container = 'archive' | 'gzip' | 'packed' | 'ole' | 'tnef' | 'message';

export interface Detected {
  readonly type: string;
  readonly kind?: Kind;
  readonly container?: Container;
}

interface Signature extends Detected {
  readonly at: number;
  readonly bytes: Buffer;
}

const signature = (
  at: number,
  magic: string | readonly number[],
  type: string,
  more: Partial<Detected> = {},
): Signature => ({
  at,
  bytes: typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic),
  type,
  ...more,
});
const program = { kind: 'executable' } as const;
const script = { kind: 'script' } as const;
const archive = { kind: 'archive', container: 'archive' } as const;
/** One file without an archive around it, or what nobody here can open. */
const packed = { kind: 'archive', container: 'packed' } as const;
const image = { kind: 'disk-image', container: 'archive' } as const;

/** Bytes that are enough for every signature. */
export const sampleBytes = 40 * 1024;

const signatures: readonly Signature[] = [
  signature(0, 'MZ', 'application/vnd.microsoft.portable-executable', program),
  signature(0, '\x7fELF', 'application/x-elf', program),
  signature(0, [0xfe, 0xed, 0xfa, 0xce], 'application/x-mach-binary', program),
  signature(0, [0xfe, 0xed, 0xfa, 0xcf], 'application/x-mach-binary', program),
  signature(0, [0xce, 0xfa, 0xed, 0xfe], 'application/x-mach-binary', program),
  signature(0, [0xcf, 0xfa, 0xed, 0xfe], 'application/x-mach-binary', program),
  signature(0, [0xca, 0xfe, 0xba, 0xbe], 'application/java-vm', program),
  signature(0, 'dex\n', 'application/vnd.android.dex', program),
  signature(0, [0x4c, 0, 0, 0, 1, 0x14, 2, 0], 'application/x-ms-shortcut', program),
  signature(0, '!<arch>\n', 'application/x-archive', archive),
  signature(0, 'ITSF', 'application/vnd.ms-htmlhelp', script),
  signature(0, '#!/', 'text/x-shellscript', script),
  signature(0, '[InternetShortcut]', 'application/x-mswinurl', program),
  signature(0, 'PK\x03\x04', 'application/zip', archive),
  signature(0, 'PK\x05\x06', 'application/zip', archive),
  signature(0, 'PK\x07\x08', 'application/zip', archive),
  signature(0, 'Rar!\x1a\x07', 'application/vnd.rar', archive),
  signature(0, '7z\xbc\xaf\x27\x1c', 'application/x-7z-compressed', archive),
  signature(0, 'MSCF', 'application/vnd.ms-cab-compressed', archive),
  signature(0, 'xar!', 'application/x-xar', packed),
  signature(0, '070701', 'application/x-cpio', archive),
  signature(0, '070707', 'application/x-cpio', archive),
  signature(2, '-lh', 'application/x-lzh-compressed', archive),
  signature(7, '**ACE**', 'application/x-ace-compressed', packed),
  signature(0, [0x60, 0xea], 'application/x-arj', packed),
  signature(257, 'ustar', 'application/x-tar', archive),
  signature(0, [0x1f, 0x8b, 8], 'application/gzip', { kind: 'archive', container: 'gzip' }),
  signature(4, '1AY&SY', 'application/x-bzip2', packed),
  // Of nothing.
  signature(4, [0x17, 0x72, 0x45, 0x38, 0x50, 0x90], 'application/x-bzip2', packed),
  signature(0, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], 'application/x-xz', packed),
  signature(0, [0x5d, 0, 0], 'application/x-lzma', packed),
  signature(0, 'LZIP', 'application/x-lzip', packed),
  signature(0, [0x1f, 0x9d], 'application/x-compress', packed),
  // Of every version.
  signature(1, [0xb5, 0x2f, 0xfd], 'application/zstd', packed),
  // A frame to be skipped, which zstd and lz4 have in common.
  signature(1, [0x2a, 0x4d, 0x18], 'application/zstd', packed),
  signature(0, [0x04, 0x22, 0x4d, 0x18], 'application/x-lz4', packed),
  signature(0, [0x02, 0x21, 0x4c, 0x18], 'application/x-lz4', packed),
  signature(32_769, 'CD001', 'application/x-iso9660-image', image),
  signature(32_769, 'BEA01', 'application/x-udf-image', { kind: 'disk-image' }),
  signature(0, 'conectix', 'application/x-vhd', { kind: 'disk-image' }),
  signature(0, 'vhdxfile', 'application/x-vhdx', { kind: 'disk-image' }),
  signature(0, 'KDMV', 'application/x-vmdk', { kind: 'disk-image' }),
  signature(0, 'MSWIM\0\0\0', 'application/x-ms-wim', { kind: 'disk-image' }),
  signature(0, [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1], 'application/x-ole-storage', { container: 'ole' }),
  signature(0, [0x78, 0x9f, 0x3e, 0x22], 'application/ms-tnef', { container: 'tnef' }),
  signature(0, [0xe4, 0x52, 0x5c, 0x7b, 0x8c, 0xd8, 0xa7, 0x4d], 'application/onenote'),
  signature(0, '%PDF-', 'application/pdf'),
  signature(0, '{\\rtf', 'application/rtf'),
  signature(0, '%!PS', 'application/postscript'),
  signature(0, '\x89PNG\r\n', 'image/png'),
  signature(0, [0xff, 0xd8, 0xff], 'image/jpeg'),
  signature(0, 'GIF8', 'image/gif'),
  signature(0, 'II*\0', 'image/tiff'),
  signature(0, 'MM\0*', 'image/tiff'),
  signature(0, 'BM', 'image/bmp'),
  signature(8, 'WEBP', 'image/webp'),
  signature(8, 'WAVE', 'audio/wav'),
  signature(8, 'AVI ', 'video/x-msvideo'),
  signature(4, 'ftypheic', 'image/heic'),
  signature(4, 'ftypM4A', 'audio/mp4'),
  signature(4, 'ftypqt', 'video/quicktime'),
  signature(4, 'ftyp', 'video/mp4'),
  signature(0, 'ID3', 'audio/mpeg'),
  signature(0, [0xff, 0xfb], 'audio/mpeg'),
  signature(0, 'OggS', 'audio/ogg'),
  signature(0, 'fLaC', 'audio/flac'),
  signature(0, [0x1a, 0x45, 0xdf, 0xa3], 'video/x-matroska'),
  signature(0, 'wOFF', 'font/woff'),
  signature(0, 'wOF2', 'font/woff2'),
];

const binary: Detected = { type: 'application/octet-stream' };
const texts: readonly (readonly [RegExp, Detected])[] = [
  [/^\s*<(?:!doctype\s+html|html|head|body|script)\b/i, { type: 'text/html' }],
  [/^\s*<\?xml[^>]*>\s*<(?:\w+:)?svg\b|^\s*<svg\b/i, { type: 'image/svg+xml' }],
  [
    /^\s*(?:<\?xml[^>]*>\s*)?(?:<\?component[^>]*>\s*)?<(?:job|package|scriptlet|component)\b/i,
    { type: 'text/x-scriptlet', kind: 'script' },
  ],
  [/^\s*<hta:application\b/i, { type: 'application/hta', kind: 'script' }],
  [/^\s*<\?xml/i, { type: 'application/xml' }],
  [/^\s*Windows Registry Editor|^REGEDIT4/, { type: 'text/x-ms-regedit', kind: 'script' }],
  [/^@echo off\b/i, { type: 'application/x-bat', kind: 'script' }],
];

/** Is the beginning text: UTF-8 or any 8-bit charset, no control characters but those of text? */
function looksLikeText(head: Buffer): boolean {
  for (const byte of head.subarray(0, 1024))
    if (byte < 0x20 && byte !== 9 && byte !== 10 && byte !== 12 && byte !== 13 && byte !== 27) return false;
  return head.length > 0;
}

function textType(head: Buffer): Detected {
  const wide = head[0] === 0xff && head[1] === 0xfe;
  if (!wide && !looksLikeText(head)) return binary;
  const text = head
    .toString(wide ? 'utf16le' : 'latin1')
    .slice(0, 2000)
    .replace(/^(?:\ufeff|\xef\xbb\xbf)|<!--[\s\S]{0,500}?-->/g, '');
  const found = texts.find(([pattern]) => pattern.test(text));
  if (found) return /<hta:application\b/i.test(text) ? { type: 'application/hta', kind: 'script' } : found[1];
  return { type: 'text/plain' };
}

/** Behind properties and dictionary: the size unpacked, unknown or below a TiB. */
const hasLzmaSize = (head: Buffer): boolean => /^(?:f{16}|.{10}000000)$/.test(head.toString('hex', 5, 13));

/** By the first `sampleBytes` of a file, or all of it. */
export function detect(head: Buffer): Detected {
  for (const known of signatures)
    if (
      head.length >= known.at + known.bytes.length &&
      head.compare(known.bytes, 0, known.bytes.length, known.at, known.at + known.bytes.length) === 0
    ) {
      const { type, kind, container } = known;
      // Two letters begin many a text.
      if (known.bytes.length === 2 && looksLikeText(head)) continue;
      if (type === 'application/x-lzma' && !hasLzmaSize(head)) continue;
      return { type, ...(kind && { kind }), ...(container && { container }) };
    }
  // Readers look for it in the first kilobyte.
  if (head.subarray(0, 1024).includes('%PDF-')) return { type: 'application/pdf' };
  return textType(head);
}

/** Types by content that a name with this extension may have; others are a mismatch. Only sorts that have one form. */
const expected: Readonly<Record<string, readonly string[]>> = {
  pdf: ['application/pdf'],
  png: ['image/'],
  jpg: ['image/'],
  jpeg: ['image/'],
  gif: ['image/'],
  mp3: ['audio/', 'video/'],
  mp4: ['video/', 'audio/'],
  zip: ['application/zip'],
  rar: ['application/vnd.rar'],
  '7z': ['application/x-7z-compressed'],
  doc: [
    'application/msword',
    'application/rtf',
    'text/',
    'application/xml',
    'application/vnd.openxmlformats',
    'application/x-ole',
  ],
  xls: ['application/vnd.ms-excel', 'text/', 'application/xml', 'application/vnd.openxmlformats', 'application/x-ole'],
  ppt: ['application/vnd.ms-powerpoint', 'application/vnd.openxmlformats', 'application/x-ole'],
  docx: ['application/vnd.openxmlformats', 'application/x-ole', 'application/msword'],
  xlsx: ['application/vnd.openxmlformats', 'application/x-ole', 'application/vnd.ms-excel'],
  pptx: ['application/vnd.openxmlformats', 'application/x-ole', 'application/vnd.ms-powerpoint'],
  txt: ['text/', 'application/xml', 'image/svg'],
};

/** Does the content contradict the name? What has no signature contradicts nothing. */
export function contradicts(extension: string, type: string): boolean {
  const wanted = Object.hasOwn(expected, extension) ? expected[extension] : undefined;
  if (!wanted || type === 'application/octet-stream') return false;
  return !wanted.some(prefix => type.startsWith(prefix));
}
