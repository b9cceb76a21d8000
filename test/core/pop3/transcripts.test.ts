import t from 'tap';
import { heldClock } from '../../harness/held-clock.ts';
import { runTranscripts } from '../../harness/transcript.ts';
import { startPop3 } from './pop3-fixture.ts';

const messages = [
  'From: a@example.com\nSubject: one\n\nHello there\n',
  'From: b@example.com\nSubject: two\n\n.\n.dot and more\na.b\n..\nend\n',
];

runTranscripts(t, 'pop3', async (options, name) => {
  const clock = heldClock();
  const number = (key: string) => (options[key] === undefined ? {} : { [key]: Number(options[key]) });
  const fixture = await startPop3({
    clock,
    withTls: options['withTls'] === 'true',
    listener: {
      ...(options['tls'] === 'implicit' && { tls: 'implicit' }),
      allowPlaintextAuth: options['allowPlaintextAuth'] !== 'false',
    },
    options: {
      ...(options['uidl'] === 'dovecot' && { uidl: 'dovecot' }),
      ...(options['lock'] === 'session' && { lock: 'session' }),
      ...number('expireDays'),
      ...number('loginDelaySeconds'),
    },
    limits: { ...number('maxBadCommands'), ...number('maxCommandsBeforeLogin') },
  });
  for (const message of messages.slice(0, Number(options['mail'] ?? 0))) await fixture.deliver(message);
  return {
    port: fixture.port,
    implicitTls: options['tls'] === 'implicit',
    advance: ms => clock.move(ms),
    async close() {
      await fixture.server.close(1000);
      if (options['left'] !== undefined) t.equal((await fixture.inbox()).length, Number(options['left']), name);
      t.same(fixture.complaints, [], `${name}: no warnings`);
      await fixture.close();
    },
  };
});
