// Everything a plugin may import.
export * from '../config/schema.ts';
export { addressBytes, type CidrSet, cidrSet, networkKey, parseCidr, unmapAddress } from '../lib/cidr.ts';
export type { Clock } from '../lib/clock.ts';
export { DeadlineError, raceSignal, startDeadline } from '../lib/deadline.ts';
export { drained } from '../lib/drained.ts';
export { connectEndpoint, type Endpoint, formatEndpoint, parseEndpoint } from '../lib/endpoint.ts';
export type { Failover } from '../lib/failover.ts';
export { type Glob, glob } from '../lib/glob.ts';
export { type MapLine, mapLines } from '../lib/map-lines.ts';
export { type Address, formatAddress, makeAddress, parseDomain, parseMailbox, sameAddress } from '../mail/address.ts';
export {
  displayName,
  type HeaderAddress,
  type HeaderGroup,
  type HeaderMailbox,
  mailboxesOf,
  parseAddressList,
} from '../mail/address-list.ts';
export { type AuthResult, claimedAuthResults, formatAuthResults, parseAuthResults } from '../mail/auth-results.ts';
export { decodeBody, decodeBodyText, openBody, partFilename, partNames } from '../mail/body.ts';
export { encodeTransfer } from '../mail/body-encode.ts';
export { decodeText, encodeText } from '../mail/charset.ts';
export { formatDate, parseDate } from '../mail/date.ts';
export { type QuarantineReason, quarantineReasons } from '../mail/deliverable.ts';
export { parseSigningKey, publishesKey } from '../mail/dkim-key.ts';
export {
  fieldsToSign,
  relaxedBodyHash,
  relaxedField,
  signatureAlgorithm,
  signedValue,
} from '../mail/dkim-signature.ts';
export { decodeWords, encodeRest, encodeWords } from '../mail/encoded-words.ts';
export type { Envelope, Recipient, ReversePath } from '../mail/envelope.ts';
export { renderField } from '../mail/header-edit.ts';
export { fieldText, type HeaderField, type HeaderList } from '../mail/headers.ts';
export { decodeEntities } from '../mail/html-entities.ts';
export type { Message } from '../mail/message.ts';
export { formatMessageId } from '../mail/message-id.ts';
export { type ContentType, type MimePart, parseMime, walkParts } from '../mail/mime.ts';
export { countHops, parseReceived } from '../mail/received.ts';
export { closing, type Reply, replies, reply } from '../mail/reply.ts';
export { bufferRope, concatRopes, type Rope, ropeChunks, sliceRope } from '../mail/rope.ts';
export { findSeals, type Seals } from '../mail/seals.ts';
export { createSrs, defaultSrs, looksLikeSrs, type Srs, type SrsReversal, type SrsSettings } from '../mail/srs.ts';
export * from './client-policy.ts';
export * from './contract.ts';
export * from './define.ts';
export * from './dns-list.ts';
export * from './edit-parts.ts';
export * from './engine-hosts.ts';
export * from './lookup-table.ts';
export * from './results.ts';
export * from './spam-policy.ts';
export * from './verdicts.ts';
