// The sources of one domain together. Lists, maps and the directory are asked in turn, and the first that knows the
// address settles it; what none of them knows is for the callout, where there is one. "Unknown" is said only where nobody
// who could know it failed to answer (invariant I4).
import type { RecipientSource, Verification } from './source.ts';

export interface DomainSources {
  readonly sources: readonly RecipientSource[];
  readonly callout?: RecipientSource;
  /** What is said where nobody can tell. */
  readonly unavailable: 'defer' | 'accept';
}

export function createVerifier({ sources, callout, unavailable }: DomainSources): RecipientSource {
  return {
    async verify(address, signal) {
      let open: Verification | undefined;
      let last: Verification = { kind: 'none', why: 'no source' };
      for (const source of sources) {
        const answer = await source.verify(address, signal);
        if (answer.kind === 'found') return answer;
        if (answer.kind === 'unavailable') open ??= answer;
        last = answer;
      }
      // The next hop has the last word, and what it says stands.
      const answer = callout ? await callout.verify(address, signal) : (open ?? last);
      if (answer.kind !== 'unavailable' || unavailable === 'defer') return answer;
      return { kind: 'found', why: `accepted unchecked: ${answer.why}` };
    },
  };
}
