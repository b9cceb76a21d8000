import t from 'tap';
import { heldClock } from '../../harness/held-clock.ts';
import { runTranscripts } from '../../harness/transcript.ts';
import { startManageSieve } from './managesieve-fixture.ts';

runTranscripts(t, 'managesieve', async (options, name) => {
  const clock = heldClock();
  const number = (key: string) => (options[key] === undefined ? {} : { [key]: Number(options[key]) });
  const fixture = await startManageSieve({
    clock,
    withTls: options['withTls'] === 'true',
    listener: {
      ...(options['tls'] === 'implicit' && { tls: 'implicit' }),
      allowPlaintextAuth: options['allowPlaintextAuth'] !== 'false',
    },
    limits: { ...number('maxBadCommands'), ...number('maxCommandsBeforeLogin'), ...number('scriptBytes') },
    ...number('maxScripts'),
    ...number('maxBytes'),
  });
  return {
    port: fixture.port,
    implicitTls: options['tls'] === 'implicit',
    advance: ms => clock.move(ms),
    async close() {
      await fixture.close();
      t.same(fixture.complaints, [], `${name}: no warnings`);
    },
  };
});
