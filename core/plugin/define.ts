import type { Plugin } from './contract.ts';

/** Types a plugin's options from its schema; returns its argument. */
export const definePlugin = <Options>(plugin: Plugin<Options>): Plugin<Options> => plugin;
