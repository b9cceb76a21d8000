// Messages with other header fields. Fields that are not touched keep their bytes (invariant I5).
import { renderField } from '../mail/header-edit.ts';
import type { HeaderField } from '../mail/headers.ts';
import type { Message } from '../mail/message.ts';
import { withHeaders } from '../mail/message.ts';

export function fromFields(message: Message, fields: readonly (HeaderField | Buffer)[]): Message {
  return withHeaders(message, Buffer.concat(fields.map(field => (Buffer.isBuffer(field) ? field : field.raw))));
}

/** A new field above all others. */
export function prependField(message: Message, name: string, value: string): Message {
  return fromFields(message, [renderField(name, value), ...message.headers]);
}

/** A new field below all others. */
export function appendField(message: Message, name: string, value: string): Message {
  return fromFields(message, [...ended(message.headers), renderField(name, value)]);
}

/** The last field may lack its line end, where the message ends in its header. */
function ended(fields: Iterable<HeaderField>): (HeaderField | Buffer)[] {
  return [...fields].map(field =>
    field.raw.at(-1) === 0x0a ? field : Buffer.concat([field.raw, Buffer.from('\r\n')]),
  );
}
