import type { HeaderList } from '../../core/mail/headers.ts';
import type { MessageOutcome } from '../../core/pipeline/chain.ts';
import type { Answered } from './plugin.ts';

/** Header fields of a message that went on, as the chain left them. */
export function fieldsOf({ outcome }: Answered<MessageOutcome>): HeaderList {
  if (!('message' in outcome)) throw new Error(`It did not go on: ${outcome.kind}`);
  return outcome.message.headers;
}
