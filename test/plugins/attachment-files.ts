// Attachments for tests: archives by the real tools, and files that no tool makes.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { crc32 } from 'node:zlib';

export const program = Buffer.from(`MZ\x90\0\x03\0\0\0${'\0'.repeat(200)}PE\0\0`, 'latin1');

/** base64 in lines. */
export const encoded = (bytes: Buffer): string => bytes.toString('base64').replace(/.{76}/g, '$&\n');

/** A message with a text and this attachment. */
export const mailWith = (name: string, bytes: Buffer, type = 'application/octet-stream'): string =>
  `From: a@b.test
Subject: x
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=b"

--=b
Content-Type: text/plain

See below.
--=b
Content-Type: ${type}
Content-Disposition: attachment; filename*=utf-8''${encodeURIComponent(name)}
Content-Transfer-Encoding: base64

${encoded(bytes)}
--=b--
`;

export type Files = Readonly<Record<string, Buffer | string>>;
export type Tool =
  | 'zip'
  | '7z'
  | 'tar'
  | 'tgz'
  | 'txz'
  | 'tbz'
  | 'iso'
  | 'arj'
  | 'tar-v7'
  | 'zip-password'
  | '7z-password'
  | '7z-hidden'
  | 'zip-aes';

const commands: Readonly<Record<Tool, (out: string) => readonly [string, ...string[]]>> = {
  zip: out => ['zip', '-qr', `${out}.zip`, '.'],
  '7z': out => ['7z', 'a', '-bd', `${out}.7z`, '.'],
  tar: out => ['tar', 'cf', `${out}.tar`, '.'],
  tgz: out => ['tar', 'czf', `${out}.tgz`, '.'],
  txz: out => ['tar', 'cJf', `${out}.txz`, '.'],
  tbz: out => ['tar', 'cjf', `${out}.tbz`, '.'],
  iso: out => ['genisoimage', '-quiet', '-J', '-r', '-o', `${out}.iso`, '.'],
  arj: out => ['arj', 'a', '-r', `${out}.arj`, '.'],
  'tar-v7': out => ['tar', '--format=v7', '-cf', `${out}.tar`, 'setup.exe'],
  'zip-password': out => ['zip', '-qr', '-P', 'secret', `${out}.zip`, '.'],
  '7z-password': out => ['7z', 'a', '-bd', '-psecret', `${out}.7z`, '.'],
  '7z-hidden': out => ['7z', 'a', '-bd', '-psecret', '-mhe=on', `${out}.7z`, '.'],
  'zip-aes': out => ['7z', 'a', '-bd', '-tzip', '-mem=AES256', '-psecret', `${out}.zip`, '.'],
};

/** An archive of these files, made by the tool. */
export function packed(tool: Tool, files: Files): Buffer {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-archive-'));
  try {
    const content = path.join(folder, 'content');
    for (const [name, bytes] of Object.entries(files)) {
      const file = path.join(content, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, bytes);
    }
    const out = path.join(folder, 'archive');
    const [command, ...rest] = commands[tool](out);
    execFileSync(command, rest, { cwd: content, stdio: 'ignore' });
    return readFileSync(rest.find(word => word.startsWith(`${out}.`)) ?? out);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What a program such as `xz` makes of each of these, one behind the other. */
export function squeezed(command: string, ...bytes: readonly Buffer[]): Buffer {
  const [program = '', ...rest] = command.split(' ');
  return Buffer.concat(bytes.map(input => execFileSync(program, rest, { input, maxBuffer: 1024 * 1024 * 1024 })));
}

/** A zip without compression; `at` overrides where the directory says that an entry lies. */
export function plainZip(
  files: readonly { readonly name: string; readonly bytes: Buffer; readonly at?: number }[],
): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, bytes, at } of files) {
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(20, 4);
    local.writeUInt32LE(crc32(bytes), 14);
    local.writeUInt32LE(bytes.length, 18);
    local.writeUInt32LE(bytes.length, 22);
    local.writeUInt16LE(Buffer.byteLength(name), 26);
    const central = Buffer.alloc(46);
    central.writeUInt32LE(0x02014b50, 0);
    central.writeUInt16LE(20, 4);
    central.writeUInt16LE(20, 6);
    local.copy(central, 16, 14, 28);
    central.writeUInt16LE(Buffer.byteLength(name), 28);
    central.writeUInt32LE(at ?? offset, 42);
    locals.push(local, Buffer.from(name), bytes);
    directory.push(central, Buffer.from(name));
    offset += 30 + Buffer.byteLength(name) + bytes.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, list, end]);
}

export interface Stream {
  readonly name: string;
  readonly bytes?: Buffer;
  /** Streams of a storage. */
  readonly streams?: readonly Stream[];
}

/** A compound file (MS-CFB) of 512-byte sectors. Streams are padded to 4096 bytes, so that there is no mini stream. */
export function compoundFile(streams: readonly Stream[], rootClass: Buffer = Buffer.alloc(16)): Buffer {
  const sectors: Buffer[] = [];
  const fat: number[] = [];
  const chain = (bytes: Buffer): number => {
    const first = sectors.length;
    const count = Math.max(1, Math.ceil(bytes.length / 512));
    const filled = Buffer.concat([bytes], count * 512);
    for (let at = 0; at < count; at++) {
      sectors.push(filled.subarray(at * 512, at * 512 + 512));
      fat.push(at === count - 1 ? 0xfffffffe : first + at + 1);
    }
    return first;
  };
  const entries: Buffer[] = [];
  const none = 0xffffffff;
  const add = (name: string, type: number): Buffer => {
    const entry = Buffer.alloc(128);
    entry.write(name, 0, 62, 'utf16le');
    entry.writeUInt16LE(name.length * 2 + 2, 64);
    entry[66] = type;
    for (const link of [68, 72, 76]) entry.writeUInt32LE(none, link);
    entry.writeUInt32LE(0xfffffffe, 116);
    entries.push(entry);
    return entry;
  };
  /** Siblings hang on one another as a list, which readers take as well as a tree. */
  const fill = (parent: Buffer, list: readonly Stream[]): void => {
    let link = (index: number): unknown => parent.writeUInt32LE(index, 76);
    for (const { name, bytes, streams: inner } of list) {
      const index = entries.length;
      const entry = add(name, inner ? 1 : 2);
      link(index);
      link = next => entry.writeUInt32LE(next, 72);
      if (inner) fill(entry, inner);
      else {
        const padded = Buffer.concat([bytes ?? Buffer.alloc(0)], Math.max(4096, bytes?.length ?? 0));
        entry.writeUInt32LE(chain(padded), 116);
        entry.writeUInt32LE(padded.length, 120);
      }
    }
  };
  const root = add('Root Entry', 5);
  rootClass.copy(root, 80);
  fill(root, streams);
  const directory = chain(Buffer.concat(entries));
  const table = Math.ceil((fat.length + Math.ceil(fat.length / 127) + 1) / 128);
  const header = Buffer.alloc(512, 0);
  Buffer.from('d0cf11e0a1b11ae1', 'hex').copy(header);
  header.writeUInt16LE(0x3e, 24);
  header.writeUInt16LE(3, 26);
  header.writeUInt16LE(0xfffe, 28);
  header.writeUInt16LE(9, 30);
  header.writeUInt16LE(6, 32);
  header.writeUInt32LE(table, 44);
  header.writeUInt32LE(directory, 48);
  header.writeUInt32LE(4096, 56);
  header.writeUInt32LE(0xfffffffe, 60);
  header.writeUInt32LE(0xfffffffe, 68);
  for (let at = 0; at < 109; at++) header.writeUInt32LE(at < table ? sectors.length + at : none, 76 + at * 4);
  for (let at = 0; at < table; at++) fat.push(0xfffffffd);
  const words = Buffer.alloc(table * 512, 0xff);
  for (const [at, next] of fat.entries()) words.writeUInt32LE(next, at * 4);
  return Buffer.concat([header, ...sectors, words]);
}

/** What Word keeps of a file that was dropped into a document. */
export function packagedObject(name: string, bytes: Buffer): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(bytes.length);
  const text = Buffer.from(`${name}\0C:\\${name}\0`);
  return Buffer.concat([Buffer.from([0, 0, 0, 0, 2, 0]), text, Buffer.alloc(8), Buffer.from('C:\\t\0'), size, bytes]);
}

/** winmail.dat with one attachment. */
export function tnef(name: string, bytes: Buffer): Buffer {
  const attribute = (level: number, id: number, value: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head[0] = level;
    head.writeUInt32LE(id, 1);
    head.writeUInt32LE(value.length, 5);
    return Buffer.concat([head, value, Buffer.alloc(2)]);
  };
  return Buffer.concat([
    Buffer.from('789f3e220100', 'hex'),
    attribute(2, 0x00069002, Buffer.alloc(14)),
    attribute(2, 0x00018010, Buffer.from(`${name}\0`)),
    attribute(2, 0x0006800f, bytes),
  ]);
}

/** A RAR 5 archive with stored files: signature, main header, files, end. Headers may be encrypted, which hides all. */
export function rar5(files: Files, hidden = false): Buffer {
  const vint = (value: number): Buffer => {
    const bytes: number[] = [];
    for (let rest = value; ; rest = Math.floor(rest / 128)) {
      bytes.push(rest >= 128 ? (rest & 127) | 128 : rest);
      if (rest < 128) return Buffer.from(bytes);
    }
  };
  const block = (fields: Buffer, data: Buffer = Buffer.alloc(0)): Buffer => {
    const sized = Buffer.concat([vint(fields.length), fields]);
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32(sized));
    return Buffer.concat([crc, sized, data]);
  };
  const signature = Buffer.from('526172211a070100', 'hex');
  if (hidden) {
    const encryption = Buffer.concat([vint(4), vint(0), vint(0), vint(0), Buffer.from([15]), Buffer.alloc(16, 7)]);
    return Buffer.concat([signature, block(encryption), Buffer.alloc(64, 9)]);
  }
  const blocks = Object.entries(files).map(([name, content]) => {
    const bytes = Buffer.from(content);
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(crc32(bytes));
    const title = Buffer.from(name);
    const fields = [
      vint(2),
      vint(2),
      vint(bytes.length),
      vint(4),
      vint(bytes.length),
      vint(0o100644),
      crc,
      vint(0),
      vint(1),
      vint(title.length),
      title,
    ];
    return block(Buffer.concat(fields), bytes);
  });
  return Buffer.concat([
    signature,
    block(Buffer.concat([vint(1), vint(0), vint(0)])),
    ...blocks,
    block(Buffer.concat([vint(5), vint(0), vint(0)])),
  ]);
}
