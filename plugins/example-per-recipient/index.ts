// One message, several recipients, different answers. What the envelope tells is decided in `rcpt`, where each recipient has a
// reply of its own; what only the message tells is decided in `deliver`, which is asked for each recipient.
import { definePlugin, partFilename, pass, type Reply, reject, walkParts, z } from '../../core/plugin/index.ts';

const stranger: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'You are not allowed to write to this address' };
const noAttachments: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'This address takes no attachments' };

const address = () =>
  z
    .string()
    .regex(/^[^@\s]*@[^@\s]+$/, "Expected an address, or '@domain' for all of a domain")
    .transform(text => text.toLowerCase());

export const examplePerRecipient = definePlugin({
  name: 'example-per-recipient',
  doc: 'Example for plugin authors: decides for each recipient of a message.',
  options: z.strictObject({
    recipients: z
      .array(
        z.strictObject({
          address: address().describe('The recipient, or `@domain` for all of a domain.'),
          senders: z.array(address()).optional().describe('Who may write: addresses or `@domain`; default: everybody.'),
          attachments: z.boolean().default(true).describe('Whether it takes messages with attachments.'),
        }),
      )
      .default([])
      .describe('Rules; the first one that matches a recipient counts.'),
  }),
  setup(options) {
    const matches = (pattern: string, text: string): boolean =>
      pattern.startsWith('@') ? text.endsWith(pattern) : text === pattern;
    const ruleFor = (recipient: string) =>
      options.recipients.find(rule => matches(rule.address, recipient.toLowerCase()));
    return {
      rcpt(at, to) {
        const senders = ruleFor(to.address.text)?.senders;
        const sender = at.envelope.sender?.text.toLowerCase();
        // The null sender brings delivery reports, which a mailbox must take (RFC 5321 §4.5.5).
        if (!senders || sender === undefined || senders.some(pattern => matches(pattern, sender))) return pass;
        return reject(stranger, `${sender} may not write to ${to.address.text}`);
      },
      async deliver(at, to) {
        if (ruleFor(to.address.text)?.attachments !== false) return pass;
        for (const part of walkParts(await at.message.mime())) {
          const name = partFilename(part);
          if (name === undefined && part.disposition?.type !== 'attachment') continue;
          at.evidence({ attachment: name ?? '' });
          return reject(noAttachments, `${to.address.text} takes no attachments`);
        }
        return pass;
      },
    };
  },
});
