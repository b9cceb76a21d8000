// One file that is packed without an archive around it. The library opens no such thing, for it was built without its "raw"
// format, but it goes on from one packed stream to the next. So a stream is put in front that unpacks to the head of a WARC
// record (ISO 28500): what follows is the content of that record, and is read like the only file of an archive.
import type { ArchiveEntry } from './archive.ts';

const start = 'WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: file:///';
// The largest length that the library takes.
const end = '\r\nWARC-Date: 2026-01-01T00:00:00Z\r\nContent-Length: 2147483647\r\n\r\n';
/** As many bytes as `compressed` has codes for. */
const recordHead = Buffer.from(`${start}${'x'.repeat(263 - start.length - end.length)}${end}`);

/** The same by `bzip2 -9` and `xz -0 --check=crc32`. */
const bzip2Head = Buffer.from(
  'QlpoOTFBWSZTWUkLYYEAACrfwAASQAP90CwkFpAr5d5gABAgAHUNUZNAADQYgGagDUyp6amMk9PUyBGTJkYmEFOu5wnYgFNENyBGt6yfesUhGgMM' +
    '0BRc1GQipM8jCUMAWAmsz+YDKTvIAivWWyibudHSjOga5ILnv71v/u0jOib7yqsuhdyRThQkEkLYYEA=',
  'base64',
);
const xzHead = Buffer.from(
  '/Td6WFoAAAFpIt42AgAhAQwAAACPmEGc4AEGAGtdACuQRomNUVM+yyFt4ZkNt+IGsNzGV3K513BQb56ds6q9g3SRQ3Nst6G0mtgusXx7ThQPs9tI' +
    '+6xJgjWj3NxxlEy9zB49izatuHnvPD5hQjn6Lanmoq9jaqw9tDRtRhQLQMvmQxMMHi1iIdkAAAAcVqNHAAGDAYcCAAD3wRsVPjANiwIAAAAAAVla',
  'base64',
);

/** Codes of so many bits, the lowest bit first. */
function bits(codes: readonly number[], width: number): Buffer {
  const bytes = Buffer.alloc((codes.length * width) / 8);
  for (const [index, code] of codes.entries())
    for (let bit = 0; bit < width; bit++) {
      const at = index * width + bit;
      bytes[at >> 3] = (bytes[at >> 3] as number) | (((code >> bit) & 1) << (at & 7));
    }
  return bytes;
}

/** The head in codes of `compress`: 256 of them fill the table of nine bits, and the eighth of ten bits empties it again. */
function compressed(bytes: Buffer): Buffer {
  const codes = [...recordHead];
  const head = [bits(codes.slice(0, 256), 9), bits([...codes.slice(256), 256], 10)];
  return Buffer.concat([bytes.subarray(0, 3), ...head, bytes.subarray(3)]);
}

/** An archive of one file, the content. Undefined: nothing here unpacks this type. */
export function asRecord(type: string, bytes: Buffer): Buffer | undefined {
  switch (type) {
    case 'application/x-bzip2':
      return Buffer.concat([bzip2Head, bytes]);
    case 'application/x-xz':
      return Buffer.concat([xzHead, bytes]);
    case 'application/x-compress':
      return compressed(bytes);
    default:
      return undefined;
  }
}

/** The file of the record. Behind its end the library fills up with zeros, so the first read that gets less is the last. */
export function contentOf(entry: ArchiveEntry): ArchiveEntry {
  let isOver = false;
  let left = entry.size;
  return {
    ...entry,
    read(bytes) {
      if (isOver) return Buffer.alloc(0);
      const piece = entry.read(bytes);
      isOver = piece.length < bytes;
      left -= piece.length;
      if (left <= 0) throw new Error('Too large to be unpacked');
      return piece;
    },
  };
}
