/** What the client sent is not IMAP. `message` is for the client (RFC 3501 §7.1.3 BAD), so it quotes nothing it sent. */
export class WireError extends Error {
  override readonly name = 'WireError';
}
