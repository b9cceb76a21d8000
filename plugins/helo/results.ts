import { transactionResult } from '../../core/plugin/index.ts';

/** What is wrong with the name that a client gives. */
export const heloFaults = [
  'syntax',
  'address',
  'literal',
  'not-qualified',
  'own-name',
  'unknown-host',
  'mismatch',
] as const;
export type HeloFault = (typeof heloFaults)[number];

/** Absent for clients that are not looked at. */
export const heloResult = transactionResult<readonly HeloFault[]>('helo.faults');
