/** Longest path of a unix socket in bytes: `sun_path` of unix(7) holds 108 with the terminating zero. */
export const longestSocketPath = 107;

/**
 * Whether a path is short enough for a socket. One that is not must be refused by whoever takes it: Node 20 cuts it off
 * without a word and so listens on, or connects to, another file than the one named.
 */
export const fitsSocket = (path: string): boolean => Buffer.byteLength(path) <= longestSocketPath;
