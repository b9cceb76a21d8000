// A Word document with a macro that a scanner can read: MS-CFB with the VBA project of MS-OVBA.
import { compoundFile } from './attachment-files.ts';

const u16 = (value: number): Buffer => Buffer.from([value & 255, value >> 8]);
const u32 = (value: number): Buffer => Buffer.concat([u16(value & 0xffff), u16(value >>> 16)]);
const record = (id: number, data: Buffer = Buffer.alloc(0)): Buffer => Buffer.concat([u16(id), u32(data.length), data]);

/** MS-OVBA §2.4.1, of literals only; at most 3,600 bytes. */
function compressed(data: Buffer): Buffer {
  const tokens: Buffer[] = [];
  for (let at = 0; at < data.length; at += 8) tokens.push(Buffer.from([0]), data.subarray(at, at + 8));
  const chunk = Buffer.concat(tokens);
  return Buffer.concat([Buffer.from([1]), u16((chunk.length - 1) | 0xb000), chunk]);
}

/** MS-OVBA §2.3.4.2: the project and one module. */
function projectRecords(module: string): Buffer {
  const name = Buffer.from(module);
  const wide = Buffer.from(module, 'utf16le');
  return Buffer.concat([
    record(0x01, u32(1)),
    record(0x02, u32(0x409)),
    record(0x14, u32(0x409)),
    record(0x03, u16(1252)),
    record(0x04, Buffer.from('VBAProject')),
    ...[0x05, 0x40, 0x06, 0x3d].map(id => record(id)),
    record(0x07, u32(0)),
    record(0x08, u32(0)),
    Buffer.concat([u16(0x09), u32(4), u32(1), u16(1)]),
    ...[0x0c, 0x3c].map(id => record(id)),
    record(0x0f, u16(1)),
    record(0x13, u16(0xffff)),
    record(0x19, name),
    record(0x47, wide),
    record(0x1a, name),
    record(0x32, wide),
    ...[0x1c, 0x48].map(id => record(id)),
    record(0x31, u32(0)),
    record(0x1e, u32(0)),
    record(0x2c, u16(0xffff)),
    ...[0x21, 0x2b, 0x10].map(id => record(id)),
  ]);
}

export function macroDocument(): Buffer {
  const source = 'Attribute VB_Name = "Module1"\r\nSub AutoOpen()\r\nMsgBox "x"\r\nEnd Sub\r\n';
  return compoundFile([
    { name: 'WordDocument', bytes: Buffer.alloc(100) },
    {
      name: 'Macros',
      streams: [
        {
          name: 'VBA',
          streams: [
            { name: 'dir', bytes: compressed(projectRecords('Module1')) },
            { name: '_VBA_PROJECT', bytes: Buffer.from('cc6100000000', 'hex') },
            { name: 'Module1', bytes: compressed(Buffer.from(source)) },
          ],
        },
        { name: 'PROJECT', bytes: Buffer.from('ID="{x}"\r\nModule=Module1\r\n') },
      ],
    },
  ]);
}
