// What is written to Authentication-Results (RFC 8601 §2.7), in the order in which it was found out.
import type { AuthResult } from '../../core/plugin/index.ts';
import type { ArcResult, DkimResult, DmarcResult, SpfResult } from './results.ts';

const spfLine = ({ result, identity, domain }: SpfResult): AuthResult => ({
  method: 'spf',
  result,
  properties: domain === '' ? [] : [[`smtp.${identity}`, domain]],
});

const dkimLine = (found: DkimResult): AuthResult => ({
  method: 'dkim',
  result: found.result,
  ...(found.why === undefined ? {} : { comment: found.why }),
  properties: (
    [
      ['header.d', found.domain],
      ['header.i', found.identity],
      ['header.s', found.selector],
      ['header.a', found.algorithm],
      ['header.b', found.signature],
    ] as const
  ).filter(([, value]) => value !== '' && value !== '@'),
});

const arcLine = (found: ArcResult, clientAddress: string): AuthResult => ({
  method: 'arc',
  result: found.result,
  ...(found.instance > 0 ? { comment: `i=${found.instance}${found.sealer ? ` ${found.sealer}` : ''}` } : {}),
  properties: [['smtp.remote-ip', clientAddress]],
});

const dmarcLine = (found: DmarcResult): AuthResult => ({
  method: 'dmarc',
  result: found.result,
  ...(found.override === undefined ? {} : { comment: found.override }),
  properties: [
    ...(found.domain === '' ? [] : [['header.from', found.domain] as const]),
    // RFC 9989 §9.1: the policy as evaluated.
    ...(found.policy === undefined ? [] : [['policy.dmarc', found.policy] as const]),
  ],
});

export interface Findings {
  readonly spf: SpfResult | undefined;
  readonly helo: SpfResult | undefined;
  readonly dkim: readonly DkimResult[];
  readonly arc: ArcResult;
  readonly dmarc: DmarcResult;
}

export const resultLines = (found: Findings, clientAddress: string): readonly AuthResult[] => [
  ...[found.spf, found.helo].filter(line => line !== undefined).map(spfLine),
  ...(found.dkim.length === 0 ? [{ method: 'dkim', result: 'none', properties: [] }] : found.dkim.map(dkimLine)),
  ...(found.arc.result === 'none' ? [] : [arcLine(found.arc, clientAddress)]),
  dmarcLine(found.dmarc),
];
