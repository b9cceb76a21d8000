// How the files of a zip lie in it, by its central directory. Entries that share bytes are how a bomb of kilobytes unpacks
// to terabytes without nesting, and bytes before the first entry are a second archive that other programs open instead.

export type ZipFault = 'overlap' | 'hidden' | 'no-directory';

const endSignature = Buffer.from('PK\x05\x06', 'latin1');

/** Undefined where all is well. `maxEntries`: no more of the directory is read. */
export function zipFault(bytes: Buffer, maxEntries: number): ZipFault | undefined {
  const end = bytes.lastIndexOf(endSignature);
  if (end < 0 || end + 22 > bytes.length) return 'no-directory';
  const size = bytes.readUInt32LE(end + 12);
  const given = bytes.readUInt32LE(end + 16);
  // Zip64: lies elsewhere, and mail is too small to need it.
  if (given === 0xffffffff) return undefined;
  const directory = end - size;
  // What stands in front of the archive shifts every offset (self-extracting programs).
  const shift = directory - given;
  if (directory < 0 || shift < 0) return 'no-directory';
  const ranges: { readonly start: number; readonly end: number }[] = [];
  for (let at = directory; at + 46 <= end && ranges.length < maxEntries && bytes.readUInt32LE(at) === 0x02014b50; ) {
    const start = bytes.readUInt32LE(at + 42) + shift;
    const packed = bytes.readUInt32LE(at + 20);
    const nameLength = bytes.readUInt16LE(at + 28);
    if (packed !== 0xffffffff) ranges.push({ start, end: start + 30 + nameLength + packed });
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  ranges.sort((a, b) => a.start - b.start);
  for (let index = 1; index < ranges.length; index++)
    if ((ranges[index]?.start ?? 0) < (ranges[index - 1]?.end ?? 0)) return 'overlap';
  const first = ranges[0]?.start ?? directory;
  return first > 0 && bytes.readUInt32LE(0) === 0x04034b50 ? 'hidden' : undefined;
}
