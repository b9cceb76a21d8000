import { transactionResult } from '../../core/plugin/index.ts';

export type VirusFinding =
  | { readonly kind: 'clean' }
  /** What the engine found, and what the options make of it. */
  | { readonly kind: 'infected'; readonly signatures: readonly string[]; readonly action: string }
  | { readonly kind: 'not-scanned'; readonly why: string };

/** Absent where no scanner ran or where it failed and the chain went on. */
export const virusFinding = transactionResult<VirusFinding>('clamav.finding');
