// Everything a plugin may import.
export * from '../config/schema.ts';
export { addressBytes, type CidrSet, cidrSet, networkKey, unmapAddress } from '../lib/cidr.ts';
export type { Clock } from '../lib/clock.ts';
export { DeadlineError, raceSignal, startDeadline } from '../lib/deadline.ts';
export { type Address, formatAddress, makeAddress, parseDomain, parseMailbox, sameAddress } from '../mail/address.ts';
export type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
export type { HeaderField, HeaderList } from '../mail/headers.ts';
export type { Message } from '../mail/message.ts';
export { type ContentType, type MimePart, walkParts } from '../mail/mime.ts';
export type { Reply } from '../mail/reply.ts';
export * from './contract.ts';
export * from './define.ts';
export * from './results.ts';
export * from './verdicts.ts';
