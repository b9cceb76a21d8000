import t from 'tap';
import { systemClock } from '../../../core/lib/clock.ts';
import { DeadlineError, raceSignal, startDeadline } from '../../../core/lib/deadline.ts';

t.test('a deadline aborts its signal with its own error', async t => {
  const deadline = startDeadline(systemClock, 5);
  await t.rejects(raceSignal(new Promise(() => undefined), deadline.signal), DeadlineError);
  deadline.done();
});

t.test('a parent that aborts wins, and done() silences the deadline', async t => {
  const parent = new AbortController();
  const deadline = startDeadline(systemClock, 60_000, parent.signal);
  deadline.done();
  parent.abort(new Error('client gone'));
  t.equal(deadline.signal.aborted, false);
  const second = startDeadline(systemClock, 60_000, parent.signal);
  t.match(second.signal.reason, { message: 'client gone' });
  second.done();
});
