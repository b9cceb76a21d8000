import t from 'tap';
import { exampleHeaderStamp } from '../../plugins/example-header-stamp/index.ts';
import { plugin } from '../harness/plugin.ts';

t.test('every message gets the stamp', async t => {
  const p = await plugin(exampleHeaderStamp, { text: 'hello' });
  t.teardown(() => p.close());
  await p.mail('a@example.org');
  await p.rcpt('b@example.org');
  const { outcome } = await p.message('Subject: x\n\nx\n');
  t.equal(outcome.kind, 'deliver');
  if (outcome.kind === 'deliver') t.equal(outcome.message.headers.get('X-Stamp')?.value, 'hello');
});
