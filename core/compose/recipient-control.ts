// What `postern recipients` asks of a running gateway.
import { parseMailbox } from '../mail/address.ts';
import type { RecipientPlan, RecipientSources } from './recipient-sources.ts';

export type RecipientRequest =
  | { readonly kind: 'status'; readonly samples: number; readonly domain?: string }
  | { readonly kind: 'sync'; readonly directory: string; readonly shrink: boolean }
  | { readonly kind: 'check'; readonly address: string };

const checkMs = 60_000;

export async function answerRecipients(
  sources: RecipientSources,
  plan: () => RecipientPlan,
  argument: string | undefined,
): Promise<unknown> {
  const request = JSON.parse(argument ?? '{}') as RecipientRequest;
  switch (request.kind) {
    case 'status': {
      const { directories, backends } = await sources.status();
      const shown = directories.map(each => ({
        ...each,
        samples: sources.samples(each.name, request.samples, request.domain),
      }));
      return { directories: shown, backends };
    }
    case 'sync':
      return sources.sync(request.directory, { whole: true, shrink: request.shrink });
    case 'check': {
      const parsed = parseMailbox(request.address, { smtputf8: true });
      if (parsed.kind !== 'address') throw new Error(`'${request.address}' is not an address`);
      const answer = await plan().verify(parsed.address, AbortSignal.timeout(checkMs));
      return answer ?? { kind: 'unchecked', why: `${parsed.address.domain} names no source of recipients` };
    }
  }
}
