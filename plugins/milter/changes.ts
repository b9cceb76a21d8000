// What a milter wants changed at the end of the message, collected as edits. Header indices count from 1 in the protocol
// and from 0 in edits, and mean the fields as the milter was shown them.
import type { Edit } from '../../core/plugin/index.ts';
import { type Packet, readStrings, readUint32 } from './packets.ts';

export interface Changes {
  readonly edits: readonly Edit[];
  readonly quarantine?: string;
}

const maxChanges = 10_000;

/** Folds stay folds (they come with LF), every other line break becomes a space; one leading space was of the syntax. */
const fieldValue = (value: string, leadingSpace: boolean): string =>
  (leadingSpace ? value.replace(/^ /, '') : value)
    .replace(/\r?\n(?=[ \t])/g, '\n')
    .replace(/\n(?![ \t])|[\x00-\x08\x0b-\x1f\x7f]/g, ' ')
    .replace(/(?:\n[ \t]*)+$/, '')
    .replace(/\n[ \t]+(?=\n)/g, '')
    .replaceAll('\n', '\r\n');

const address = (text: string | undefined): string => (text ?? '').trim().replace(/^<(.*)>$/, '$1');

export class ChangeCollector {
  readonly #edits: Edit[] = [];
  readonly #body: Buffer[] = [];
  readonly #leadingSpace: boolean;
  readonly #maxBodyBytes: number;
  /** Fields of that name above the first one that the milter was shown. */
  readonly #hidden: (name: string) => number;
  #bodyBytes = 0;
  #replaced = false;
  #quarantine: string | undefined;

  constructor(options: { leadingSpace: boolean; maxBodyBytes: number; hidden: (name: string) => number }) {
    this.#leadingSpace = options.leadingSpace;
    this.#maxBodyBytes = options.maxBodyBytes;
    this.#hidden = options.hidden;
  }

  /** False where the packet is no change. Throws where it is one that makes no sense. */
  take({ code, data }: Packet): boolean {
    if (this.#edits.length > maxChanges) throw new Error(`Milter wants more than ${maxChanges} changes`);
    switch (code) {
      case '+':
      case '2':
        this.#edits.push({ kind: 'add-recipient', address: address(readStrings(data)[0]) });
        return true;
      case '-':
        this.#edits.push({ kind: 'remove-recipient', address: address(readStrings(data)[0]) });
        return true;
      case 'e':
        this.#edits.push({ kind: 'set-sender', address: address(readStrings(data)[0]) || null });
        return true;
      case 'h':
        this.#add(readStrings(data), 'bottom');
        return true;
      case 'i':
        // An exact place is not to be had: fields that are inserted go to the top, as signatures and results want it.
        readUint32(data);
        this.#add(readStrings(data.subarray(4)), 'top');
        return true;
      case 'm':
        this.#change(readUint32(data), readStrings(data.subarray(4)));
        return true;
      case 'b':
        this.#replaced = true;
        this.#bodyBytes += data.length;
        if (this.#bodyBytes > this.#maxBodyBytes) throw new Error('Milter sends a body without end');
        this.#body.push(Buffer.from(data));
        return true;
      case 'q':
        this.#quarantine = (readStrings(data)[0] ?? '').replace(/[^\x20-\x7e]+/g, ' ').slice(0, 200) || 'no reason';
        return true;
      default:
        return false;
    }
  }

  result(): Changes {
    const body: readonly Edit[] = this.#replaced ? [{ kind: 'replace-body', body: Buffer.concat(this.#body) }] : [];
    return {
      edits: [...this.#edits, ...body],
      ...(this.#quarantine === undefined ? {} : { quarantine: this.#quarantine }),
    };
  }

  #add([name = '', value = '']: readonly string[], at: 'top' | 'bottom'): void {
    this.#edits.push({ kind: 'add-header', name, value: fieldValue(value, this.#leadingSpace), at });
  }

  #change(position: number, [name = '', value = '']: readonly string[]): void {
    const index = Math.max(position, 1) - 1 + this.#hidden(name);
    const text = fieldValue(value, this.#leadingSpace);
    this.#edits.push(
      text === '' ? { kind: 'remove-header', name, index } : { kind: 'replace-header', name, value: text, index },
    );
  }
}
