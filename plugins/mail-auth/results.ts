// What was found out about who sent a message, for the plugins behind this one.
import { type AuthResult, transactionResult } from '../../core/plugin/index.ts';

export type SpfVerdict = 'none' | 'neutral' | 'pass' | 'fail' | 'softfail' | 'temperror' | 'permerror';

/** RFC 7208 §2.6. */
export interface SpfResult {
  readonly result: SpfVerdict;
  /** Which identity was checked; `helo` where the sender is null (§2.4). */
  readonly identity: 'mailfrom' | 'helo';
  /** Domain of that identity, lower case; `''` where there is none. */
  readonly domain: string;
  /** For the log only. */
  readonly why: string;
}

/** RFC 8601 §2.7.1. `policy`: valid, but not to be relied on (weak key, part of the body only). */
export type DkimVerdict = 'pass' | 'fail' | 'neutral' | 'policy' | 'temperror';

export interface DkimResult {
  readonly result: DkimVerdict;
  /** `d=`, lower case. */
  readonly domain: string;
  readonly selector: string;
  /** `i=`, or `@domain`. */
  readonly identity: string;
  readonly algorithm: string;
  /** First eight characters of the signature (RFC 6008). */
  readonly signature: string;
  /** Why it is no pass. */
  readonly why?: string;
}

export interface ArcResult {
  readonly result: 'none' | 'pass' | 'fail';
  /** Number of sets; 0 where there are none. */
  readonly instance: number;
  /** Domain of the newest seal, lower case. */
  readonly sealer?: string;
  readonly why?: string;
}

export type DmarcPolicy = 'none' | 'quarantine' | 'reject';

export interface DmarcResult {
  readonly result: 'none' | 'pass' | 'fail' | 'temperror' | 'permerror';
  /** Author domain (From field), lower case; `''` where there is none or several. */
  readonly domain: string;
  /** What the domain's owner asks for; absent without a record. */
  readonly policy?: DmarcPolicy;
  /** What is to be done after sampling and overrides; `none` for all that did not fail. */
  readonly disposition: DmarcPolicy;
  /** Why the disposition is milder than the policy. */
  readonly override?: 'sampled-out' | 'trusted-arc' | 'report-only';
  readonly why?: string;
}

export const spf = transactionResult<SpfResult>('mail-auth.spf');
/** Of the HELO name, where it was checked beside a sender. */
export const spfHelo = transactionResult<SpfResult>('mail-auth.spf-helo');
/** One for each signature that was looked at, top to bottom. */
export const dkim = transactionResult<readonly DkimResult[]>('mail-auth.dkim');
export const arc = transactionResult<ArcResult>('mail-auth.arc');
export const dmarc = transactionResult<DmarcResult>('mail-auth.dmarc');
/** As written to Authentication-Results. */
export const authResults = transactionResult<readonly AuthResult[]>('mail-auth.results');
