// Header fields of one message, decoded when first asked for. RFC 5228 §2.4.2.2 and §2.7.2: values are compared as UTF-8
// text with encoded words (RFC 2047) decoded and white space at both ends ignored.
import { decodeWords } from '../mail/encoded-words.ts';
import type { HeaderField } from '../mail/headers.ts';
import type { Message } from '../mail/message.ts';

const none: readonly never[] = [];

export class HeaderCache {
  readonly #message: Message;
  readonly #values = new Map<string, readonly string[]>();

  constructor(message: Message) {
    this.#message = message;
  }

  /** All fields of a name, top to bottom; none for a name that no field can have. */
  fields(name: string): readonly HeaderField[] {
    return name === '' ? none : this.#message.headers.all(name);
  }

  values(name: string): readonly string[] {
    let values = this.#values.get(name);
    if (values === undefined) {
      const fields = this.fields(name);
      values = fields.length === 0 ? none : fields.map(decodedValue);
      this.#values.set(name, values);
    }
    return values;
  }
}

export function decodedValue(field: HeaderField): string {
  return field.value.includes('=?') ? decodeWords(field.value).trim() : field.value;
}
