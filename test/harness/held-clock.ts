// Part of what plugin authors get as `postern/testing`.
export * from '../../core/testing/held-clock.ts';
