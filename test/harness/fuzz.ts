// fast-check with a seed that is always the same, so that a run says something about the change and not about luck.
// POSTERN_FUZZ_SEED=random (or a number) looks elsewhere; what that finds becomes an example of its test.
import fc from 'fast-check';

const wanted = process.env['POSTERN_FUZZ_SEED'] ?? '20261121';
if (wanted !== 'random') fc.configureGlobal({ seed: Number(wanted) });

export { fc };
