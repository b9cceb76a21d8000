// Any milter (opendkim, clamav-milter, milter-greylist …) as an entry of the chain. Each message is one conversation on a
// connection of its own; changes are collected and become edits only when the milter said its last word, so one that
// dies half-way leaves the message as it was. The same plugin may stand in the chain as often as there are milters.
import {
  connectEndpoint,
  definePlugin,
  type Endpoint,
  engineFailover,
  engineHostFields,
  formatEndpoint,
  type Gate,
  type InMail,
  type MessageAnswer,
  pass,
  raceSignal,
  startDeadline,
  z,
} from '../../core/plugin/index.ts';
import { Conversation, type MilterOutcome, type MilterSettings } from './conversation.ts';
import { MilterLink } from './link.ts';
import { changes } from './packets.ts';

const kinds = ['headers', 'body', 'recipients', 'sender', 'quarantine'] as const;
const bits: Readonly<Record<(typeof kinds)[number], number>> = {
  headers: changes.addHeaders | changes.changeHeaders,
  body: changes.body,
  recipients: changes.addRecipients | changes.removeRecipients | changes.addRecipientsWithArguments,
  sender: changes.sender,
  quarantine: changes.quarantine,
};

const options = z.strictObject({
  ...engineHostFields('the milter', ['inet:8891@localhost']),
  allow: z
    .array(z.enum(kinds))
    .default([...kinds])
    .describe('What the milter may change. One that insists on more fails.'),
  recipients: z
    .boolean()
    .default(false)
    .describe(
      'Ask at each RCPT as well, in a conversation of its own, for milters that decide by recipient (greylisting). Otherwise a refusal of one recipient refuses the message.',
    ),
  reply: z
    .enum(['milter', 'generic'])
    .default('milter')
    .describe('What the client hears where the milter refuses with a text: that text, or a general one.'),
});

function answerOf(outcome: MilterOutcome): MessageAnswer {
  switch (outcome.kind) {
    case 'refused':
      return outcome.refusal;
    case 'discard':
      return { kind: 'discard', why: 'Milter discards' };
    case 'pass':
      return outcome.quarantine === undefined
        ? { ...pass, edits: outcome.edits }
        : { kind: 'quarantine', why: outcome.quarantine, edits: outcome.edits };
  }
}

export const milter = definePlugin({
  name: 'milter',
  doc: 'Runs any milter (opendkim, clamav-milter …): protocol version 6, its changes taken over as edits.',
  options,
  setup(settings, host) {
    const failover = engineFailover(settings, host);
    const closed = new AbortController();
    const allowed = settings.allow.reduce<number>((mask, kind) => mask | bits[kind], changes.setMacros);
    const terms = (maxBodyBytes: number): MilterSettings => ({
      allowed,
      ownReplies: settings.reply === 'milter',
      maxBodyBytes,
    });

    const connect = async (endpoint: Endpoint, signal: AbortSignal): Promise<MilterLink> =>
      new MilterLink(
        await connectEndpoint(endpoint, { signal, clock: host.clock, connectMs: settings.connectTimeout }),
      );

    /** Rejects with the signal's reason when it aborts, however the milter behaves. */
    const talk = (
      at: InMail,
      maxBodyBytes: number,
      about: (conversation: Conversation) => Promise<MilterOutcome>,
    ): Promise<{ readonly outcome: MilterOutcome; readonly by: string }> =>
      failover.run(at.signal, async (endpoint, signal) => {
        const link = await connect(endpoint, signal);
        try {
          const conversation = new Conversation(link, at, host, terms(maxBodyBytes));
          const outcome = await raceSignal(about(conversation), signal);
          link.close();
          return { outcome, by: formatEndpoint(endpoint) };
        } catch (error) {
          link.destroy();
          throw error;
        }
      });

    return {
      ...(settings.recipients && {
        async rcpt(at, to): Promise<Gate> {
          const { outcome } = await talk(at, 0, conversation => conversation.askRecipient(to));
          // To discard is for the message; at this stage it would be a silent loss.
          return outcome.kind === 'refused' ? outcome.refusal : pass;
        },
      }),
      async message(at) {
        const maxBodyBytes = at.message.size * 2 + 16 * 1024 * 1024;
        const { outcome, by } = await talk(at, maxBodyBytes, conversation =>
          conversation.askMessage(at.id, at.message),
        );
        at.evidence({ milter: by, said: outcome.kind === 'pass' && outcome.settled ? 'accept' : outcome.kind });
        return answerOf(outcome);
      },
      async status() {
        const lines = settings.hosts.map(async endpoint => {
          const deadline = startDeadline(host.clock, settings.connectTimeout, closed.signal);
          const line = await connect(endpoint, deadline.signal).then(
            link => {
              link.close();
              return 'accepts connections';
            },
            (error: Error) => `does not answer: ${error.message}`,
          );
          deadline.done();
          return [formatEndpoint(endpoint), line] as const;
        });
        return Object.fromEntries(await Promise.all(lines));
      },
      async close() {
        closed.abort();
      },
    };
  },
});
