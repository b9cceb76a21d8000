// Packets of the milter protocol, version 6 as libmilter speaks it: four bytes of length, one of the command, data. Knows
// bytes and nothing of mail.

/** What a milter may change (SMFIF_…). */
export const changes = {
  addHeaders: 0x1,
  body: 0x2,
  addRecipients: 0x4,
  removeRecipients: 0x8,
  changeHeaders: 0x10,
  quarantine: 0x20,
  sender: 0x40,
  addRecipientsWithArguments: 0x80,
  setMacros: 0x100,
} as const;

/** What a milter need not see or answer (SMFIP_…). */
export const steps = {
  noConnect: 0x1,
  noHelo: 0x2,
  noMail: 0x4,
  noRcpt: 0x8,
  noBody: 0x10,
  noHeaders: 0x20,
  noEndOfHeader: 0x40,
  silentHeaders: 0x80,
  noUnknown: 0x100,
  noData: 0x200,
  skip: 0x400,
  silentConnect: 0x1000,
  silentHelo: 0x2000,
  silentMail: 0x4000,
  silentRcpt: 0x8000,
  silentData: 0x10000,
  silentUnknown: 0x20000,
  silentEndOfHeader: 0x40000,
  silentBody: 0x80000,
  leadingSpace: 0x100000,
} as const;

export const allSteps = Object.values(steps).reduce((mask, bit) => mask | bit, 0);

/** The body is sent in pieces of at most this size (MILTER_CHUNK_SIZE). */
export const chunkBytes = 65_535;
const maxPacketBytes = 1024 * 1024;

export interface Packet {
  /** One ASCII character. */
  readonly code: string;
  readonly data: Buffer;
}

export function encodePacket(code: string, ...data: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(1 + data.reduce((sum, piece) => sum + piece.length, 0), 0);
  head.write(code, 4, 'latin1');
  return Buffer.concat([head, ...data]);
}

const nul = Buffer.from([0]);
/** Strings, each ended by NUL; one inside a string would end it early, so it becomes a space. */
export const strings = (...values: readonly (string | Buffer)[]): Buffer =>
  Buffer.concat(
    values.flatMap(value => {
      const bytes = Buffer.from(value);
      return [bytes.includes(0) ? Buffer.from(bytes.map(byte => byte || 0x20)) : bytes, nul];
    }),
  );

export const uint32 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * index);
  return bytes;
};

/** The strings in `data`; throws where the last one has no end. */
export function readStrings(data: Buffer): readonly string[] {
  if (data.length > 0 && data.at(-1) !== 0) throw new Error('Milter sent a string without an end');
  return data.length === 0 ? [] : data.toString('utf8', 0, data.length - 1).split('\0');
}

export function readUint32(data: Buffer, offset = 0): number {
  if (data.length < offset + 4) throw new Error('Milter sent a packet that is too short');
  return data.readUInt32BE(offset);
}

/** Takes bytes as they come and gives whole packets. */
export class PacketReader {
  #bytes: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
  }

  /** Undefined until a whole packet is there. Throws for a length that no packet has. */
  next(): Packet | undefined {
    if (this.#bytes.length < 4) return undefined;
    const length = this.#bytes.readUInt32BE(0);
    if (length < 1 || length > maxPacketBytes) throw new Error(`Milter sent a packet of ${length} bytes`);
    if (this.#bytes.length < 4 + length) return undefined;
    const code = this.#bytes.toString('latin1', 4, 5);
    const data = this.#bytes.subarray(5, 4 + length);
    this.#bytes = this.#bytes.subarray(4 + length);
    return { code, data };
  }
}
