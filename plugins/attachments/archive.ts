// Archives through libarchive, compiled to WebAssembly: zip, 7z, rar, tar, cab, iso, cpio, lzh, and what is packed with
// bzip2 or xz. Synchronous, so only for a worker. The one file that knows the package.
import { type LibarchiveWasm, libarchiveWasm } from 'libarchive-wasm';

export interface ArchiveEntry {
  readonly name: string;
  /** As the archive claims; 0 where it does not say. */
  readonly size: number;
  readonly isFile: boolean;
  readonly isEncrypted: boolean;
  /** Up to `bytes` more of the entry's content, at once; empty at its end. Throws an Error where it cannot be unpacked. */
  read(bytes: number): Buffer;
}

export interface ArchiveEnd {
  /** Why reading ended early. */
  readonly fault?: string;
  readonly encrypted: boolean;
}

export type Archives = (bytes: Buffer, onEntry: (entry: ArchiveEntry) => boolean) => Promise<ArchiveEnd>;

const regularFile = 0o100000;

/** What Node has of WebAssembly.Memory, which belongs to no library of types here. */
interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
interface WithMemory {
  readonly Memory: { readonly prototype: Memory };
}

/** Memory that an archive claims beyond this is refused, and the archive counts as one that cannot be read. */
function capMemory(maxBytes: number): void {
  const { prototype } = (globalThis as unknown as { readonly WebAssembly: WithMemory }).WebAssembly.Memory;
  const grow = prototype.grow;
  prototype.grow = function (this: Memory, pages: number): number {
    if (this.buffer.byteLength + pages * 65_536 > maxBytes) throw new RangeError('Archive wants too much memory');
    return grow.call(this, pages);
  };
}

/** The cap holds for all that this thread does. `onEntry` answers false to end. Never rejects for what an archive holds. */
export function openArchives(maxMemory: number): Archives {
  capMemory(maxMemory);
  let library: Promise<LibarchiveWasm> | undefined;
  return async (bytes, onEntry) => {
    library ??= libarchiveWasm();
    try {
      return readArchive(await library, bytes, onEntry);
    } catch (error) {
      // A trap leaves the memory in no known state, and what was allocated is lost: the next archive gets a new one.
      library = undefined;
      return { fault: `Too damaged (${error instanceof Error ? error.message : String(error)})`, encrypted: false };
    }
  };
}

/** Throws only where the library itself broke down. */
function readArchive(library: LibarchiveWasm, bytes: Buffer, onEntry: (entry: ArchiveEntry) => boolean): ArchiveEnd {
  const heap = library.module;
  const at = heap._malloc(bytes.length);
  if (at === 0) return { fault: 'Too large to be unpacked', encrypted: false };
  heap.HEAP8.set(bytes, at);
  // The package's own wrapper asks an archive that is not there what went wrong.
  const open = heap.cwrap<number, [number, number, string?]>('archive_read_new_memory', 'number', [
    'number',
    'number',
    'string',
  ]);
  const archive = open(at, bytes.length);
  if (archive === 0) {
    heap._free(at);
    return { fault: 'Not a known archive format', encrypted: false };
  }
  let end: ArchiveEnd | undefined;
  while (!end) {
    const pointer = library.read_next_entry(archive);
    if (pointer === 0) end = endOf(library, archive);
    else if (!onEntry(entryOf(library, archive, pointer))) end = { encrypted: false };
  }
  library.read_free(archive);
  heap._free(at);
  return end;
}

function endOf(library: LibarchiveWasm, archive: number): ArchiveEnd {
  const fault = library.error_string(archive);
  const encrypted = library.read_has_encrypted_entries(archive) === 1 || /encrypt|passphrase/i.test(fault ?? '');
  return { encrypted, ...(fault && { fault }) };
}

function entryOf(library: LibarchiveWasm, archive: number, pointer: number): ArchiveEntry {
  return {
    name: library.entry_pathname(pointer) ?? '',
    size: Number(library.entry_size(pointer)),
    isFile: (library.entry_filetype(pointer) & 0o170000) === regularFile,
    isEncrypted: library.entry_is_encrypted(pointer) !== 0,
    read(bytes) {
      const heap = library.module;
      const at = heap._malloc(bytes);
      if (at === 0) throw new Error('Too large to be unpacked');
      try {
        const length = library.read_data(archive, at, bytes);
        return Buffer.from(heap.HEAP8.slice(at, at + length).buffer);
      } finally {
        heap._free(at);
      }
    },
  };
}
