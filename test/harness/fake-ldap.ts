// An LDAP server with what only a domain controller has: answers in ranges, deleted objects, and lies about both. All
// that a real slapd can show is tested with slapd.

import type { AddressInfo } from 'node:net';
import { createServer, type Socket } from 'node:net';
import { BerReader, BerWriter, Control, ControlParser, PagedResultsControl } from '../../core/net/ldap.ts';
import { showDeletedControl } from '../../core/recipients/directory.ts';

export interface FakeEntry {
  readonly dn: string;
  readonly attributes: Readonly<Record<string, readonly (string | Buffer)[]>>;
  /** Only seen with the show-deleted control. */
  readonly deleted?: boolean;
}

export interface FakeLdap {
  readonly url: string;
  entries: readonly FakeEntry[];
  /** Most values of one attribute in one answer (MaxValRange). */
  maxValues: number;
  /** In place of the piece from `low` on: attribute and values; undefined: the attribute is left out. */
  piece: ((name: string, low: number, values: readonly (string | Buffer)[]) => Piece | undefined) | undefined;
  /** Result code of searches with the show-deleted control; 0: answered; `hidden`: as without it. */
  deleted: number | 'hidden';
  /** Before each page comes an empty one; `endless`: nothing but empty ones, each promising more. */
  emptyPages: boolean | 'endless';
  /** `base scope attributes` of every search, in order of arrival. */
  readonly asked: string[];
  close(): Promise<void>;
}

type Piece = readonly [attribute: string, values: readonly (string | Buffer)[]];
/** RFC 4511 §4.5.1, as far as the searches of the gateway go. */
type Filter =
  | { readonly kind: 'and'; readonly all: readonly Filter[] }
  | { readonly kind: 'present'; readonly attribute: string }
  | { readonly kind: 'equal' | 'atLeast'; readonly attribute: string; readonly value: string };

function readFilter(reader: BerReader): Filter {
  const tag = reader.peek();
  if (tag === 0x87) return { kind: 'present', attribute: reader.readString(0x87) ?? '' };
  reader.readSequence();
  const end = reader.offset + reader.length;
  if (tag === 0xa0) {
    const all: Filter[] = [];
    while (reader.offset < end) all.push(readFilter(reader));
    return { kind: 'and', all };
  }
  if (tag !== 0xa3 && tag !== 0xa5) throw new Error(`A filter that this server does not know: ${tag}`);
  const attribute = reader.readString() ?? '';
  return { kind: tag === 0xa3 ? 'equal' : 'atLeast', attribute, value: reader.readString() ?? '' };
}

const valuesOf = (entry: FakeEntry, attribute: string): readonly (string | Buffer)[] =>
  Object.entries(entry.attributes).find(([name]) => name.toLowerCase() === attribute.toLowerCase())?.[1] ?? [];

function matches(entry: FakeEntry, filter: Filter): boolean {
  if (filter.kind === 'and') return filter.all.every(each => matches(entry, each));
  const values = valuesOf(entry, filter.attribute);
  if (filter.kind === 'present') return values.length > 0 || filter.attribute.toLowerCase() === 'objectclass';
  if (filter.kind === 'atLeast') return values.some(value => Number(value) >= Number(filter.value));
  return values.some(value => String(value).toLowerCase() === filter.value.toLowerCase());
}

function pieces(server: FakeLdap, entry: FakeEntry, asked: string): readonly Piece[] {
  const [, plain = asked, from] = /^(.*);range=(\d+)-\*$/i.exec(asked) ?? [];
  const name = Object.keys(entry.attributes).find(each => each.toLowerCase() === plain.toLowerCase());
  if (name === undefined) return [];
  const values = valuesOf(entry, plain);
  if (from === undefined && values.length <= server.maxValues) return [[name, values]];
  const low = Number(from ?? 0);
  if (server.piece) {
    const given = server.piece(name, low, values);
    return given ? [given] : [];
  }
  const some = values.slice(low, low + server.maxValues);
  const end = low + some.length >= values.length ? '*' : String(low + some.length - 1);
  // A domain controller lists the attribute itself too, empty.
  return [...(from === undefined ? [[name, []] as const] : []), [`${name};range=${low}-${end}`, some]];
}

function message(id: number, write: (to: BerWriter) => void): Buffer {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeInt(id);
  write(writer);
  writer.endSequence();
  return writer.buffer;
}

const result = (id: number, tag: number, code = 0, cookie?: string): Buffer =>
  message(id, writer => {
    writer.startSequence(tag);
    writer.writeEnumeration(code);
    writer.writeString('');
    writer.writeString(code === 0 ? '' : `refused with ${code}`);
    writer.endSequence();
    if (cookie === undefined) return;
    writer.startSequence(0xa0);
    new PagedResultsControl({ value: { size: 0, cookie: Buffer.from(cookie) } }).write(writer);
    writer.endSequence();
  });

const found = (id: number, { dn }: FakeEntry, attributes: readonly Piece[]): Buffer =>
  message(id, writer => {
    writer.startSequence(0x64);
    writer.writeString(dn);
    writer.startSequence();
    for (const [name, values] of attributes) {
      writer.startSequence();
      writer.writeString(name);
      writer.startSequence(0x31);
      for (const value of values)
        if (typeof value === 'string') writer.writeString(value);
        else writer.writeBuffer(value, 4);
      writer.endSequence();
      writer.endSequence();
    }
    writer.endSequence();
    writer.endSequence();
  });

/** Strings up to `end`. */
function readStrings(reader: BerReader, end: number): readonly string[] {
  const strings: string[] = [];
  while (reader.offset < end) strings.push(reader.readString() ?? '');
  return strings;
}

function search(server: FakeLdap, id: number, reader: BerReader): readonly Buffer[] {
  const baseDN = reader.readString() ?? '';
  const scope = reader.readEnumeration() === 0 ? 'base' : 'sub';
  reader.readEnumeration();
  reader.readInt();
  reader.readInt();
  reader.readBoolean();
  const filter = readFilter(reader);
  reader.readSequence();
  const attributes = readStrings(reader, reader.offset + reader.length);
  let shown = false;
  let paged: PagedResultsControl | undefined;
  if (reader.peek() === 0xa0) {
    reader.readSequence();
    for (const end = reader.offset + reader.length; reader.offset < end; ) {
      const control = ControlParser.parse(reader, [new Control(showDeletedControl)]);
      if (control instanceof PagedResultsControl) paged = control;
      else shown ||= control?.type === showDeletedControl;
    }
  }
  server.asked.push(`${baseDN} ${scope} ${attributes.join()}`);
  if (shown && typeof server.deleted === 'number' && server.deleted !== 0) return [result(id, 0x65, server.deleted)];
  const base = baseDN.toLowerCase().replace(/, +/g, ',');
  const inScope = ({ dn }: FakeEntry): boolean =>
    dn.toLowerCase() === base || (scope === 'sub' && dn.toLowerCase().endsWith(`,${base}`));
  const all = server.entries.filter(
    entry =>
      inScope(entry) && (entry.deleted !== true || (shown && server.deleted !== 'hidden')) && matches(entry, filter),
  );
  if (scope === 'base' && all.length === 0) return [result(id, 0x65, 32)];
  const cookie = paged?.value?.cookie?.toString() || '0';
  if (paged && (server.emptyPages === 'endless' || (server.emptyPages && !cookie.endsWith(' '))))
    return [result(id, 0x65, 0, `${cookie.trim()} `)];
  const at = Number(cookie);
  const end = paged?.value ? at + paged.value.size : all.length;
  const entries = all.slice(at, end).map(entry =>
    found(
      id,
      entry,
      attributes.flatMap(attribute => pieces(server, entry, attribute)),
    ),
  );
  return [...entries, result(id, 0x65, 0, paged && (end < all.length ? String(end) : ''))];
}

function answer(server: FakeLdap, socket: Socket, bytes: Buffer): void {
  const reader = new BerReader(bytes);
  reader.readSequence();
  const id = reader.readInt() ?? 0;
  const operation = reader.readSequence();
  if (operation === 0x60) socket.write(result(id, 0x61));
  else if (operation === 0x63) socket.write(Buffer.concat(search(server, id, reader)));
  else socket.end();
}

/** Length of the first message in `bytes`, all bytes counted; undefined while its beginning is not complete. */
function lengthOf(bytes: Buffer): number | undefined {
  const first = bytes[1];
  if (first === undefined) return undefined;
  if (first < 0x80) return 2 + first;
  const count = first & 0x7f;
  return bytes.length < 2 + count ? undefined : 2 + count + bytes.readUIntBE(2, count);
}

export async function startFakeLdap(): Promise<FakeLdap> {
  const sockets = new Set<Socket>();
  const listener = createServer(socket => {
    sockets.add(socket.once('close', () => sockets.delete(socket)).once('error', () => socket.destroy()));
    let held = Buffer.alloc(0);
    socket.on('data', chunk => {
      held = Buffer.concat([held, chunk]);
      for (let size = lengthOf(held); size !== undefined && held.length >= size; size = lengthOf(held)) {
        const one = held.subarray(0, size);
        held = held.subarray(size);
        answer(server, socket, one);
      }
    });
  });
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve));
  const server: FakeLdap = {
    url: `ldap://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    entries: [],
    maxValues: 1_500,
    piece: undefined,
    deleted: 0,
    emptyPages: false,
    asked: [],
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>(resolve => listener.close(() => resolve()));
    },
  };
  return server;
}
