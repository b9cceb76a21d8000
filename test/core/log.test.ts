import { Writable } from 'node:stream';
import t from 'tap';
import { createLogger } from '../../core/log.ts';

t.test('a log that cannot be written does not end who writes it', async t => {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done(new Error('write EPIPE')) });
  const full = createLogger({ level: 'info', format: 'json', file: '/dev/full' }, nowhere, false);
  t.doesNotThrow(() => full.info('one'));
  t.doesNotThrow(() => full.info('two'));
  for (const format of ['json', 'pretty'] as const) {
    const failed: Error[] = [];
    const gone = new Writable({
      write(_chunk, _encoding, done) {
        const error = new Error('write EPIPE');
        failed.push(error);
        done(error);
      },
    });
    const log = createLogger({ level: 'info', format }, gone, false);
    log.info('one');
    await new Promise(resolve => setImmediate(resolve));
    log.info('two');
    await new Promise(resolve => setImmediate(resolve));
    t.equal(failed.length, 1, `${format}: tried once, and heard of nowhere`);
  }
});
