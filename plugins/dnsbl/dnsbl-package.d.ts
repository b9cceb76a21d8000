declare module 'dnsbl' {
  export interface LookupOptions {
    readonly timeout?: number;
    readonly servers?: string | readonly string[];
    readonly includeTxt?: false;
  }
  /** False also for every kind of failure. */
  export function lookup(address: string, blacklist: string, options?: LookupOptions): Promise<boolean>;
}
