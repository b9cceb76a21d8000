// What `npm test` repeats at its end is what failed, with its diagnosis, and nothing else.
import t from 'tap';
import { failuresOf } from '../harness/tap-failures.ts';

t.test('a failed assertion is shown with its diagnosis below the names around it', async t => {
  const tap = `TAP version 14
# Subtest: build/test/one.test.js
    ok 1 - fine
    # Subtest: inner
        ok 1 - fine # time=1ms
        not ok 2 - should be equal
          ---
          diff: |
            not ok 9 - this is text of the diagnosis
          ...
        1..2
    not ok 2 - inner # time=3ms
      ---
      at: here
      ...
    1..2
not ok 1 - build/test/one.test.js # time=5ms
  ---
  exitCode: 1
  ...
ok 2 - build/test/two.test.js # time=5ms
# Subtest: build/test/three.test.js
    not ok 1 - later # TODO
    ok 2 - not installed # SKIP
ok 3 - build/test/three.test.js # time=5ms
not ok 4 - build/test/four.test.js
  ---
  signal: SIGSEGV
  ...
1..4`;
  t.strictSame(failuresOf(tap), [
    `not ok build/test/one.test.js
    not ok inner
        not ok should be equal
          ---
          diff: |
            not ok 9 - this is text of the diagnosis
          ...`,
    `not ok build/test/four.test.js
  ---
  signal: SIGSEGV
  ...`,
  ]);
  t.strictSame(failuresOf('TAP version 14\nok 1 - a\n1..1\n'), []);
});
