// Annotations: what one plugin found out and another may read. Typed by key, set once per scope.

export interface ResultKey<T> {
  /** `plugin.what`, e.g. `dnsbl.listed`. */
  readonly name: string;
  readonly scope: 'session' | 'transaction';
  /** Carries the type only; never set. */
  readonly type?: T;
}

export const sessionResult = <T>(name: string): ResultKey<T> => ({ name, scope: 'session' });
export const transactionResult = <T>(name: string): ResultKey<T> => ({ name, scope: 'transaction' });
