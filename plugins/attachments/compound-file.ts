// Compound files (MS-CFB), the format behind .doc, .xls, .ppt, .msi and .msg: a small file system of sectors. Read with a
// bound on everything: a chain is never followed longer than the file has sectors, and nothing is read twice.

export interface Entry {
  /** Storages from the root down and the stream's own name, joined with `/`. */
  readonly path: string;
  readonly isStream: boolean;
  readonly size: number;
  readonly start: number;
}

const END = 0xfffffffa;
const maxEntries = 20_000;
const miniCutoff = 4096;

export class CompoundFileError extends Error {
  override readonly name = 'CompoundFileError';
}

export class CompoundFile {
  readonly entries: readonly Entry[];
  /** 16 bytes as they stand. */
  readonly rootClass: Buffer;
  readonly #bytes: Buffer;
  readonly #sectorSize: number;
  readonly #fat: Uint32Array;
  readonly #miniFat: Uint32Array;
  readonly #miniStream: Buffer;

  /** Throws CompoundFileError where it is none. */
  constructor(bytes: Buffer) {
    if (bytes.length < 512) throw new CompoundFileError('too short');
    const shift = bytes.readUInt16LE(30);
    if (shift !== 9 && shift !== 12) throw new CompoundFileError(`sector shift ${shift}`);
    this.#bytes = bytes;
    this.#sectorSize = 1 << shift;
    this.#fat = this.#readFat();
    const directory = this.#chain(bytes.readUInt32LE(48), maxEntries * 128);
    if (directory.length < 128) throw new CompoundFileError('no directory');
    this.rootClass = directory.subarray(80, 96);
    this.#miniFat = words(this.#chain(bytes.readUInt32LE(60), bytes.length));
    this.#miniStream = this.#chain(directory.readUInt32LE(116), bytes.length);
    this.entries = readDirectory(directory);
  }

  /** The stream's bytes, cut after `maxBytes`. */
  read(entry: Entry, maxBytes: number): Buffer {
    const size = Math.min(entry.size, maxBytes);
    if (entry.size >= miniCutoff) return this.#chain(entry.start, size).subarray(0, size);
    const pieces: Buffer[] = [];
    let sector = entry.start;
    for (let length = 0; length < size && sector < this.#miniFat.length; length += 64) {
      pieces.push(this.#miniStream.subarray(sector * 64, sector * 64 + 64));
      sector = this.#miniFat[sector] ?? END;
    }
    return Buffer.concat(pieces).subarray(0, size);
  }

  #sector(index: number): Buffer {
    const start = (index + 1) * this.#sectorSize;
    return this.#bytes.subarray(start, start + this.#sectorSize);
  }

  #readFat(): Uint32Array {
    const bytes = this.#bytes;
    const sectors = Math.ceil(bytes.length / this.#sectorSize);
    const perSector = this.#sectorSize / 4;
    const list: number[] = [];
    for (let at = 76; at < 512; at += 4) list.push(bytes.readUInt32LE(at));
    let next = bytes.readUInt32LE(68);
    for (let count = 0; next < END && count < sectors && list.length * perSector < sectors + perSector; count++) {
      const difat = this.#sector(next);
      if (difat.length < this.#sectorSize) break;
      for (let at = 0; at < this.#sectorSize - 4; at += 4) list.push(difat.readUInt32LE(at));
      next = difat.readUInt32LE(this.#sectorSize - 4);
    }
    // No more of the table than the file has sectors.
    const used = list.filter(sector => sector < END).slice(0, Math.ceil(sectors / perSector) + 1);
    return words(Buffer.concat(used.map(sector => this.#sector(sector))));
  }

  #chain(start: number, maxBytes: number): Buffer {
    const pieces: Buffer[] = [];
    let sector = start;
    let length = 0;
    // Sectors of a loop would be more than the table has.
    for (let count = 0; sector < END && count < this.#fat.length && length < maxBytes; count++) {
      const piece = this.#sector(sector);
      if (piece.length === 0) break;
      pieces.push(piece);
      length += piece.length;
      sector = this.#fat[sector] ?? END;
    }
    return Buffer.concat(pieces);
  }
}

function words(bytes: Buffer): Uint32Array {
  const list = new Uint32Array(bytes.length >> 2);
  for (let at = 0; at < list.length; at++) list[at] = bytes.readUInt32LE(at * 4);
  return list;
}

/** The tree of siblings and children, each entry once, whatever the links say. */
function readDirectory(directory: Buffer): readonly Entry[] {
  const count = directory.length >> 7;
  const seen = new Set<number>([0]);
  const found: Entry[] = [];
  const pending: { readonly id: number; readonly folder: string }[] = [{ id: directory.readUInt32LE(76), folder: '' }];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { id, folder } = next;
    if (id >= count || seen.has(id)) continue;
    seen.add(id);
    const at = id * 128;
    const nameBytes = Math.min(Math.max(directory.readUInt16LE(at + 64) - 2, 0), 62);
    const path = `${folder}${directory.toString('utf16le', at, at + nameBytes)}`;
    const type = directory[at + 66];
    found.push({
      path,
      isStream: type === 2,
      start: directory.readUInt32LE(at + 116),
      size: directory.readUInt32LE(at + 120),
    });
    for (const link of [68, 72]) pending.push({ id: directory.readUInt32LE(at + link), folder });
    if (type === 1) pending.push({ id: directory.readUInt32LE(at + 76), folder: `${path.slice(0, 2000)}/` });
  }
  return found;
}
