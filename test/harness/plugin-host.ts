// Part of what plugin authors get as `postern/testing`.
export * from '../../core/testing/plugin-host.ts';
