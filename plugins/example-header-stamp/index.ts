// The smallest complete plugin: one option, one hook, one edit. Copy this folder to begin a plugin of your own.
import { definePlugin, pass, z } from '../../core/plugin/index.ts';

export const exampleHeaderStamp = definePlugin({
  name: 'example-header-stamp',
  doc: 'Example for plugin authors: stamps every message with a header field.',
  options: z.strictObject({
    text: z.string().min(1).default('passed').describe('Value of the X-Stamp field.'),
  }),
  setup(options, host) {
    host.log.debug({ text: options.text }, 'Stamp is ready');
    return {
      message(at) {
        at.evidence({ recipients: at.envelope.recipients.length });
        return { ...pass, edits: [{ kind: 'add-header', name: 'X-Stamp', value: options.text }] };
      },
    };
  },
});
