// What is used of the package mailauth, which types only a part of it.
type Resolver = (name: string, type: string) => Promise<readonly unknown[]>;

declare module 'mailauth/lib/spf/index.js' {
  export function spf(options: {
    readonly sender: string;
    readonly ip: string;
    readonly helo: string;
    readonly mta: string;
    readonly strict: boolean;
    readonly maxVoidCount: number;
    readonly resolver: Resolver;
  }): Promise<{ readonly domain: string; readonly status: { readonly result: string; readonly comment?: string } }>;
}

declare module 'mailauth/lib/dkim/dkim-verifier.js' {
  export interface SignatureResult {
    readonly signingDomain?: string;
    readonly selector?: string;
    readonly signature?: string;
    readonly algo?: string;
    readonly status: {
      readonly result: string;
      readonly comment?: string;
      readonly underSized?: number;
      readonly testing?: boolean;
      readonly header?: { readonly i?: string | false };
    };
  }
  export interface SignatureHeader {
    readonly type: string;
    readonly bodyHashKey?: string;
    readonly signingDomain?: string;
    readonly selector?: string;
    readonly algorithm?: string;
  }
  export interface ArcSet {
    readonly i: number;
    readonly 'arc-seal': { readonly parsed?: Readonly<Record<string, { readonly value?: unknown }>> };
    readonly 'arc-authentication-results': { readonly original: Buffer | string };
  }
  export interface ArcData {
    readonly chain: readonly ArcSet[] | false;
    readonly lastEntry?: ArcSet;
    readonly error?: Error;
  }
  export class DkimVerifier {
    constructor(options: {
      readonly resolver: Resolver;
      readonly strict: boolean;
      readonly minBitLength: number;
      readonly curTime: Date;
    });
    readonly results: readonly SignatureResult[];
    readonly arc: ArcData;
    signatureHeaders: SignatureHeader[];
    bodyHashes: Map<string, unknown>;
    protected messageHeaders(headers: unknown): Promise<void>;
    protected verifySignature(signature: SignatureHeader, fallback?: boolean): Promise<SignatureResult>;
    writeAsync(chunk: Buffer): Promise<void>;
    finish(): Promise<void>;
  }
}

declare module 'mailauth/lib/arc/index.js' {
  import type { ArcData } from 'mailauth/lib/dkim/dkim-verifier.js';
  export function arc(
    data: ArcData,
    options: { readonly resolver: Resolver; readonly strict: boolean; readonly minBitLength: number },
  ): Promise<{
    readonly i: number | false;
    readonly status: { readonly result: string; readonly comment?: string };
  }>;
}

declare module 'mailauth/lib/dmarc/index.js' {
  interface Identifier {
    readonly domain: string;
    readonly underSized?: number;
  }
  export function evaluateDmarc(options: {
    readonly headerFrom: readonly string[];
    readonly fromFields: number;
    readonly spfDomains: readonly Identifier[];
    readonly dkimDomains: readonly Identifier[];
    readonly resolver: Resolver;
    readonly strict: boolean;
  }): Promise<{
    readonly response:
      | false
      | {
          readonly status: { readonly result: string; readonly comment?: string };
          readonly policy?: 'none' | 'quarantine' | 'reject';
          readonly policyDomain?: string;
          readonly rr?: string;
          readonly error?: string;
        };
    readonly reason?: string;
  }>;
}
