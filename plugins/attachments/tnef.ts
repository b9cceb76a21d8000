// winmail.dat: what Outlook makes of a message for other Outlooks (MS-OXTNEF). Only its attachments are read.

export interface TnefFile {
  readonly name: string;
  readonly bytes: Buffer;
}

const attachTitle = 0x00018010;
const attachData = 0x0006800f;
const attachStart = 0x00069002;
const maxFiles = 1000;

/** Attachments as far as they can be read; undefined where the stream breaks off. */
export function readTnef(bytes: Buffer): { readonly files: readonly TnefFile[]; readonly whole: boolean } {
  const files: { name: string; bytes: Buffer }[] = [];
  let at = 6;
  while (at + 9 <= bytes.length && files.length <= maxFiles) {
    const attribute = bytes.readUInt32LE(at + 1);
    const length = bytes.readUInt32LE(at + 5);
    const value = bytes.subarray(at + 9, at + 9 + length);
    if (value.length < length) return { files, whole: false };
    const current = files.at(-1);
    if (attribute === attachStart) files.push({ name: '', bytes: Buffer.alloc(0) });
    else if (attribute === attachTitle && current) current.name = value.toString('latin1').replace(/\0.*$/s, '');
    else if (attribute === attachData && current) current.bytes = value;
    at += 9 + length + 2;
  }
  return { files, whole: at >= bytes.length };
}
