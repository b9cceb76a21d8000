// Entries of the chain: as configured, and as they run.
import type { Plugin, PluginInstance } from '../plugin/contract.ts';

export interface ChainEntry {
  /** In trace, log and `status`; unique in the chain. */
  readonly name: string;
  readonly plugin: Plugin<unknown>;
  /** As it stands in the configuration, not yet validated. */
  readonly options: unknown;
  /** Deadline of each hook call. */
  readonly timeoutMs: number;
  readonly onError: 'defer' | 'continue';
  readonly mode?: 'enforce' | 'observe';
  /**
   * Where the plugin comes from, in which revision, under which isolation. A reload keeps what is set up where this and
   * the options are as they were; without it the entry is set up anew each time.
   */
  readonly source?: string;
  /** Where the entry's options stand in the configuration, for messages. */
  readonly path?: readonly (string | number)[];
}

export interface LoadedEntry {
  readonly name: string;
  readonly instance: PluginInstance;
  readonly timeoutMs: number;
  readonly onError: 'defer' | 'continue';
  /** Runs and is recorded, decides nothing. */
  readonly observe: boolean;
  readonly writes: ReadonlySet<string>;
}
