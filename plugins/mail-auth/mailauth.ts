// The only file that knows the package. Its strict modes follow the standards to the letter (a broken record is a
// permerror, tag names have a case, From must be signed …); what they leave open is closed here: how many signatures are
// worth looking at, what counts as covered, and which failures were the DNS's and not the sender's.
import { arc as checkArc } from 'mailauth/lib/arc/index.js';
import {
  type ArcData,
  DkimVerifier,
  type SignatureHeader,
  type SignatureResult,
} from 'mailauth/lib/dkim/dkim-verifier.js';
import { evaluateDmarc } from 'mailauth/lib/dmarc/index.js';
import { spf as checkSpf } from 'mailauth/lib/spf/index.js';
import { type Message, ropeChunks } from '../../core/plugin/index.ts';
import type { CheckResolver } from './resolver.ts';
import type { ArcResult, DkimResult, DkimVerdict, DmarcPolicy, SpfResult, SpfVerdict } from './results.ts';

export interface SpfQuestion {
  /** `local@domain`; for the HELO identity `postmaster@name` (RFC 7208 §2.4). */
  readonly sender: string;
  readonly identity: SpfResult['identity'];
  readonly clientAddress: string;
  readonly helo: string;
  readonly hostname: string;
  readonly maxVoidLookups: number;
}

const spfVerdicts: readonly string[] = ['none', 'neutral', 'pass', 'fail', 'softfail', 'permerror'];

export async function verifySpf(question: SpfQuestion, resolver: CheckResolver): Promise<SpfResult> {
  const { status } = await checkSpf({
    sender: question.sender,
    ip: question.clientAddress,
    helo: question.helo,
    mta: question.hostname,
    strict: true,
    // The package takes 0 for "not given".
    maxVoidCount: Math.max(question.maxVoidLookups, 0.5),
    resolver: resolver.resolve,
  });
  return {
    result: spfVerdicts.includes(status.result) ? (status.result as SpfVerdict) : 'temperror',
    identity: question.identity,
    domain: question.sender.slice(question.sender.lastIndexOf('@') + 1).toLowerCase(),
    why: (status.comment ?? '').replace(/^[^:]*: /, ''),
  };
}

/** Looks at the first signatures only: each `l=` of its own would cost another hash over the whole body. */
class BoundedVerifier extends DkimVerifier {
  readonly #maxSignatures: number;
  constructor(options: ConstructorParameters<typeof DkimVerifier>[0] & { readonly maxSignatures: number }) {
    super(options);
    this.#maxSignatures = options.maxSignatures;
  }
  protected override async messageHeaders(headers: unknown): Promise<void> {
    await super.messageHeaders(headers);
    let left = this.#maxSignatures;
    this.signatureHeaders = this.signatureHeaders.filter(({ type }) => type !== 'DKIM' || left-- > 0);
    const used = new Set(this.signatureHeaders.map(({ bodyHashKey }) => bodyHashKey));
    for (const key of this.bodyHashes.keys()) if (!used.has(key)) this.bodyHashes.delete(key);
  }
  /** What makes the package throw (`c=/`) is a fault of the signature and not of ours, so it must not become a deferral. */
  protected override async verifySignature(signature: SignatureHeader, fallback?: boolean): Promise<SignatureResult> {
    try {
      return await super.verifySignature(signature, fallback);
    } catch (error) {
      const { signingDomain = '', selector = '', algorithm = '' } = signature;
      const comment = error instanceof Error ? error.message : 'not understood';
      return { signingDomain, selector, algo: algorithm, status: { result: 'neutral', comment } };
    }
  }
}

export interface SignatureOptions {
  readonly maxSignatures: number;
  readonly minKeyBits: number;
  readonly partialBody: 'policy' | 'pass';
  readonly now: Date;
}

const dkimVerdicts: readonly string[] = ['pass', 'fail', 'neutral', 'policy'];

function readSignature(found: SignatureResult, options: SignatureOptions): DkimResult {
  const { status } = found;
  const partial = options.partialBody === 'policy' && (status.underSized ?? 0) > 0 && status.result === 'pass';
  const result = partial ? 'policy' : status.result;
  const domain = (found.signingDomain ?? '').toLowerCase();
  const why = partial ? `${status.underSized} octets of the body are not signed` : status.comment;
  return {
    result: dkimVerdicts.includes(result) ? (result as DkimVerdict) : 'temperror',
    domain,
    selector: found.selector ?? '',
    identity: status.header?.i || `@${domain}`,
    algorithm: found.algo ?? '',
    signature: (found.signature ?? '').replace(/\s/g, '').slice(0, 8),
    ...(why === undefined ? {} : { why }),
  };
}

const tag = (data: ArcData, name: string): string => {
  const value = data.lastEntry?.['arc-seal'].parsed?.[name]?.value;
  return typeof value === 'string' ? value.trim().toLowerCase() : '';
};

async function readArc(data: ArcData, options: SignatureOptions, resolver: CheckResolver): Promise<ArcResult> {
  if (!data.chain && !data.error) return { result: 'none', instance: 0 };
  const { i, status } = await checkArc(data, {
    resolver: resolver.resolve,
    strict: true,
    minBitLength: options.minKeyBits,
  });
  const sealer = tag(data, 'd');
  return {
    result: status.result === 'pass' || status.result === 'none' ? status.result : 'fail',
    instance: i || 0,
    ...(sealer === '' ? {} : { sealer }),
    ...(status.result === 'pass' || status.comment === undefined ? {} : { why: status.comment }),
  };
}

export interface Signatures {
  readonly dkim: readonly DkimResult[];
  readonly arc: ArcResult;
  /** What the newest sealer wrote down (ARC-Authentication-Results, unfolded, without the instance). */
  readonly sealedResults?: string;
}

const none: Signatures = { dkim: [], arc: { result: 'none', instance: 0 } };
const arcFields = ['arc-seal', 'arc-message-signature', 'arc-authentication-results'];

/** A message without signatures is not read. Rejects when its file is gone, or with the signal's reason. */
export async function verifySignatures(
  message: Message,
  options: SignatureOptions,
  resolver: CheckResolver,
  signal: AbortSignal,
): Promise<Signatures> {
  const signed = message.headers.has('dkim-signature');
  if (!signed && !arcFields.some(name => message.headers.has(name))) return none;
  const verifier = new BoundedVerifier({
    resolver: resolver.resolve,
    strict: true,
    minBitLength: options.minKeyBits,
    curTime: options.now,
    maxSignatures: options.maxSignatures,
  });
  for await (const chunk of ropeChunks(message.rope)) {
    signal.throwIfAborted();
    await verifier.writeAsync(chunk);
  }
  await verifier.finish();
  const sealed = verifier.arc.lastEntry?.['arc-authentication-results'].original.toString();
  return {
    dkim: signed ? verifier.results.map(found => readSignature(found, options)) : [],
    arc: await readArc(verifier.arc, options, resolver),
    ...(sealed === undefined ? {} : { sealedResults: sealed.replace(/^[^:]*:[^;]*;/s, '').replace(/\r?\n/g, '') }),
  };
}

export interface DmarcAnswer {
  readonly result: 'none' | 'pass' | 'fail' | 'temperror' | 'permerror';
  readonly policy?: DmarcPolicy;
  /** The record as published. */
  readonly record?: string;
  readonly why?: string;
}

/** One author domain; `spf` of the MAIL FROM identity only (RFC 9989 §4.3). */
export async function verifyDmarc(
  domain: string,
  spf: SpfResult | undefined,
  dkim: readonly DkimResult[],
  resolver: CheckResolver,
): Promise<DmarcAnswer> {
  const evaluate = (counted: readonly string[]) =>
    evaluateDmarc({
      headerFrom: [`author@${domain}`],
      fromFields: 1,
      spfDomains: spf && counted.includes(spf.result) ? [{ domain: spf.domain }] : [],
      dkimDomains: dkim.filter(({ result }) => counted.includes(result)).map(found => ({ domain: found.domain })),
      resolver: resolver.resolve,
      strict: true,
    });
  const { response, reason } = await evaluate(['pass']);
  if (!response) return { result: 'permerror', why: reason ?? 'no author domain' };
  const { result } = response.status;
  const facts = {
    ...(response.policy ? { policy: response.policy } : {}),
    ...(response.rr ? { record: response.rr } : {}),
  };
  if (result === 'pass' || result === 'none') return { result, ...facts };
  if (result === 'temperror') return { result, ...facts, why: response.error ?? 'DNS failure' };
  // RFC 9989 §5.4: what failed only because the DNS did might have aligned; then nothing is decided yet.
  const undecided = [spf, ...dkim].some(found => found?.result === 'temperror');
  if (undecided) {
    const hoped = (await evaluate(['pass', 'temperror'])).response;
    if (hoped && hoped.status.result !== 'fail') return { result: 'temperror', ...facts, why: 'DNS failure' };
  }
  return { result: 'fail', ...facts };
}
