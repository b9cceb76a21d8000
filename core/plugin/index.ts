// Everything a plugin may import.
export * from '../config/schema.ts';
export { addressBytes, type CidrSet, cidrSet, networkKey, unmapAddress } from '../lib/cidr.ts';
export type { Clock } from '../lib/clock.ts';
export type { Address } from '../mail/address.ts';
export type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
export type { HeaderField, HeaderList } from '../mail/headers.ts';
export type { Message } from '../mail/message.ts';
export type { ContentType, MimePart } from '../mail/mime.ts';
export type { Reply } from '../mail/reply.ts';
export * from './contract.ts';
export * from './define.ts';
export * from './results.ts';
export * from './verdicts.ts';
