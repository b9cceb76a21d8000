// A message while it arrives: in memory up to a threshold, then in a file of the spool folder. Memory is bounded at any
// size: what a message holds above `allowance` is taken from a budget that all share, and where that is used up it is
// spooled early. The input waits for the disk; file and budget are given back however the transaction ends.
import { type FileHandle, open, unlink } from 'node:fs/promises';
import path from 'node:path';
import type { Piece } from '../mail/rope.ts';
import { DataDecoder, type DecoderOptions } from './data-decoder.ts';
import type { BodySink, Done } from './input.ts';
import type { SpoolMemory } from './spool-memory.ts';

export interface IncomingOptions extends DecoderOptions {
  /** Name of the spool file, if one is needed. */
  readonly file: string;
  readonly spoolAbove: number;
  readonly memory: SpoolMemory;
  onError(error: unknown): void;
  /** The client goes on and on after the message became too large. */
  onFlood(): void;
}

/** Every message may hold this much. */
export const allowance = 256 * 1024;
/** A write to the disk is at least this large; so is what is taken from the shared memory. */
const batch = 256 * 1024;
const gatherBelow = 2048;
const gatherInto = 16 * 1024;
/** So much beyond twice the limit is read and thrown away before we hang up. */
const floodAllowance = 64 * 1024 * 1024;

export class Incoming {
  readonly decoder: DataDecoder;
  /** A disk that is full or broken: the client hears 452 (RFC 5321 §4.2.3). */
  diskFailed = false;
  private readonly options: IncomingOptions;
  private held: Buffer[] = [];
  private heldBytes = 0;
  /** Of the shared memory. */
  private taken = 0;
  private gathering: Buffer = Buffer.alloc(0);
  private gathered = 0;
  private head: Buffer = Buffer.alloc(0);
  private handle: FileHandle | undefined;
  private opened: Promise<void> | undefined;
  private onDisk = 0;
  private writing: Promise<void> = Promise.resolve();
  private disposed = false;

  constructor(options: IncomingOptions) {
    this.options = options;
    this.decoder = new DataDecoder(options);
  }

  /** Bytes of the decoded message so far. */
  get size(): number {
    return this.decoder.size;
  }

  /** The header section and its empty line, in memory in any case; the whole message if it is. */
  get header(): Buffer {
    this.seal();
    const end = this.decoder.headerEnd;
    const length = end < 0 ? this.size : end + 2;
    return this.onDisk > 0 ? this.head.subarray(0, length) : Buffer.concat(this.held, Math.min(length, this.heldBytes));
  }

  /** For `SmtpInput`: the data of DATA, up to its dot. */
  dataSink(finished: () => Done): BodySink {
    const { decoder } = this;
    return {
      take: chunk => {
        const wait = this.keep(decoder.decode(chunk));
        return { used: decoder.rest, done: decoder.ended, wait };
      },
      finished,
    };
  }

  /** For one BDAT chunk of `length` bytes. */
  chunkSink(length: number, finished: () => Done): BodySink {
    let left = length;
    return {
      take: chunk => {
        const mine = chunk.length > left ? chunk.subarray(0, left) : chunk;
        left -= mine.length;
        const used = mine.length;
        return { used, done: left === 0, wait: this.keep(this.decoder.decode(mine)) };
      },
      finished,
    };
  }

  private keep(piece: Buffer): Promise<void> | undefined {
    if (this.decoder.size > this.options.maxSize * 2 + floodAllowance) this.options.onFlood();
    if (this.decoder.defect || this.diskFailed) {
      this.held = [];
      this.heldBytes = 0;
      this.gathered = 0;
      this.giveBack();
      return undefined;
    }
    if (piece.length === 0) return undefined;
    this.hold(piece);
    return this.mayHold() ? undefined : this.spool();
  }

  private mayHold(): boolean {
    if (this.onDisk > 0) return this.heldBytes <= batch;
    if (this.heldBytes > this.options.spoolAbove) return false;
    if (this.heldBytes <= allowance + this.taken) return true;
    if (!this.options.memory.take(batch)) return false;
    this.taken += batch;
    return this.mayHold();
  }

  private giveBack(): void {
    this.options.memory.give(this.taken);
    this.taken = 0;
  }

  /** A client that sends byte by byte must not cost a buffer per byte: small pieces are gathered. */
  private hold(piece: Buffer): void {
    this.heldBytes += piece.length;
    if (piece.length >= gatherBelow) {
      this.seal();
      this.held.push(piece);
      return;
    }
    if (this.gathered + piece.length > this.gathering.length) {
      this.seal();
      this.gathering = Buffer.allocUnsafe(gatherInto);
    }
    this.gathered += piece.copy(this.gathering, this.gathered);
  }

  /** What was gathered becomes a piece; the room behind it is used for the next. */
  private seal(): void {
    if (this.gathered === 0) return;
    this.held.push(this.gathering.subarray(0, this.gathered));
    this.gathering = this.gathering.subarray(this.gathered);
    this.gathered = 0;
  }

  /** Moves what is held to the file. */
  private spool(): Promise<void> {
    this.seal();
    const pieces = this.held;
    const length = this.heldBytes;
    this.held = [];
    this.heldBytes = 0;
    const { headerEnd } = this.decoder;
    if (this.onDisk === 0 || headerEnd < 0 || this.head.length < headerEnd + 2)
      this.head = Buffer.concat([this.head, ...pieces]).subarray(0, this.options.maxHeader + 4);
    this.onDisk += length;
    this.writing = this.writing.then(async () => {
      if (this.disposed || this.diskFailed) return;
      try {
        this.opened ??= this.create();
        await this.opened;
        const { bytesWritten } = (await this.handle?.writev(pieces)) ?? { bytesWritten: 0 };
        // A disk that fills up in the middle reports no error, only fewer bytes.
        if (bytesWritten < length)
          throw new Error(`Wrote ${bytesWritten} of ${length} bytes to '${this.options.file}'`);
        this.giveBack();
      } catch (error) {
        this.diskFailed = true;
        this.options.onError(error);
      }
    });
    return this.writing;
  }

  private async create(): Promise<void> {
    this.handle = await open(this.options.file, 'wx', 0o600);
  }

  /** All bytes are in: the pieces of the message. The file lives until `dispose`. */
  async pieces(): Promise<readonly Piece[]> {
    if (!this.options.dots) {
      const wait = this.keep(this.decoder.finish());
      if (wait) await wait;
    }
    this.seal();
    if (this.onDisk === 0) return this.held;
    if (this.heldBytes > 0) await this.spool();
    await this.writing;
    await this.handle?.close();
    this.handle = undefined;
    return [{ file: this.options.file, start: 0, end: this.onDisk }];
  }

  /** Removes the file; what is being written is waited for. Harmless when repeated. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.held = [];
    if (this.onDisk === 0) {
      this.giveBack();
      return;
    }
    this.writing = this.writing.then(async () => {
      try {
        await this.handle?.close();
        if (this.opened) await unlink(this.options.file);
      } catch (error) {
        this.options.onError(error);
      }
      this.giveBack();
    });
  }
}

export const spoolFile = (folder: string, id: string): string => path.join(folder, `${id}.incoming`);
