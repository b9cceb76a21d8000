// TLS for all listeners: certificates from files, one per name (SNI), re-read when the files change so that new
// handshakes get the new certificate and live sessions keep theirs. Without a certificate there is no TLS: nothing here
// falls back to a built-in key. Files are looked at while a handshake begins, at most once a second; no watcher, no timer.
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import path from 'node:path';
import { createSecureContext, type SecureContext, type SecureVersion, TLSSocket } from 'node:tls';
import type { Clock } from '../lib/clock.ts';
import { selfSignedCertificate } from './self-signed.ts';

export interface CertificateFiles {
  /** PEM: private key; certificate followed by its intermediates. */
  readonly key: string;
  readonly cert: string;
}

export interface TlsOptions {
  /** At least one. The first serves clients that name no server or an unknown one. */
  readonly certificates: readonly CertificateFiles[];
  /** Default TLSv1.2 (RFC 8996 forbids what is older). */
  readonly minVersion?: SecureVersion;
  /** OpenSSL cipher list, for TLS 1.2. */
  readonly ciphers?: string;
  readonly clock: Clock;
  /** A changed file was read; or it could not be, and the old certificate stays. */
  onReload?(certificate: CertificateInfo): void;
  onError?(error: Error): void;
}

export interface CertificateInfo {
  readonly files: CertificateFiles;
  /** Lower-case DNS names and addresses of the subjectAltName, or the common name. */
  readonly names: readonly string[];
  readonly selfSigned: boolean;
  /** ms since the epoch. */
  readonly notAfter: number;
  readonly fingerprint: string;
}

export interface Tls {
  /** For a new handshake. `servername`: what the client asked for by SNI. */
  context(servername?: string): SecureContext;
  certificates(): readonly CertificateInfo[];
  /** Server side of a handshake over `socket`, implicit or after STARTTLS. The socket is destroyed when it fails. */
  accept(socket: Socket, timeoutMs: number): Promise<TLSSocket>;
}

interface Loaded {
  readonly info: CertificateInfo;
  readonly context: SecureContext;
  readonly stamp: string;
}

const checkEveryMs = 1000;

/** Throws when a file cannot be read or key and certificate do not belong together. */
export function openTls(options: TlsOptions): Tls {
  if (options.certificates.length === 0) throw new Error('TLS needs a certificate');
  let loaded = options.certificates.map(files => load(files, options));
  let checkedAt = options.clock.monotonic();

  function refresh(): void {
    const now = options.clock.monotonic();
    if (now - checkedAt < checkEveryMs) return;
    checkedAt = now;
    loaded = loaded.map(old => {
      try {
        if (stamp(old.info.files) === old.stamp) return old;
        const fresh = load(old.info.files, options);
        options.onReload?.(fresh.info);
        return fresh;
      } catch (error) {
        // Half-written pair or a file gone for a moment: the old one serves, and the next look tries again.
        options.onError?.(new Error(`Cannot reload certificate '${old.info.files.cert}'`, { cause: error }));
        return old;
      }
    });
  }

  const find = (servername: string | undefined): SecureContext => {
    const name = servername?.toLowerCase().replace(/\.$/, '');
    const match = name && loaded.find(entry => entry.info.names.some(pattern => nameMatches(pattern, name)));
    const chosen = match || loaded[0];
    if (!chosen) throw new Error('TLS needs a certificate');
    return chosen.context;
  };

  return {
    context(servername) {
      refresh();
      return find(servername);
    },
    certificates: () => loaded.map(entry => entry.info),
    accept(socket, timeoutMs) {
      refresh();
      return handshake(socket, timeoutMs, options.clock, find);
    },
  };
}

function stamp(files: CertificateFiles): string {
  return [files.key, files.cert]
    .map(file => {
      const { ino, size, mtimeMs } = statSync(file);
      return `${ino} ${size} ${mtimeMs}`;
    })
    .join(' ');
}

function load(files: CertificateFiles, options: TlsOptions): Loaded {
  const seen = stamp(files);
  const key = readFileSync(files.key);
  const cert = readFileSync(files.cert);
  const context = createSecureContext({
    key,
    cert,
    minVersion: options.minVersion ?? 'TLSv1.2',
    ...(options.ciphers !== undefined && { ciphers: options.ciphers }),
  });
  return { info: describe(files, new X509Certificate(cert)), context, stamp: seen };
}

function describe(files: CertificateFiles, certificate: X509Certificate): CertificateInfo {
  const names = (certificate.subjectAltName ?? '')
    .split(/,\s*/)
    .flatMap(entry => /^(?:DNS|IP Address):(.+)$/.exec(entry)?.[1]?.toLowerCase() ?? []);
  const commonName = /^CN=(.+)$/m.exec(certificate.subject)?.[1]?.toLowerCase();
  return {
    files,
    names: names.length > 0 ? names : commonName === undefined ? [] : [commonName],
    selfSigned: certificate.subject === certificate.issuer && certificate.verify(certificate.publicKey),
    notAfter: Date.parse(certificate.validTo),
    fingerprint: certificate.fingerprint256,
  };
}

/** RFC 6125 §6.4.3: a wildcard is the whole leftmost label and stands for one label. */
function nameMatches(pattern: string, name: string): boolean {
  if (!pattern.startsWith('*.')) return pattern === name;
  const dot = name.indexOf('.');
  return dot > 0 && name.slice(dot) === pattern.slice(1);
}

function handshake(
  socket: Socket,
  timeoutMs: number,
  clock: Clock,
  find: (servername: string | undefined) => SecureContext,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secure = new TLSSocket(socket, {
      isServer: true,
      secureContext: find(undefined),
      SNICallback: (servername, done) => done(null, find(servername)),
    });
    const finish = (error: unknown): void => {
      cancel();
      for (const event of ['error', '_tlsError', 'close']) secure.removeListener(event, onFailure);
      secure.removeListener('secure', onSecure);
      socket.removeListener('error', ignore);
      if (error === undefined) {
        resolve(secure);
        return;
      }
      // A late error of a dying socket has no one left to hear it.
      secure.on('error', ignore);
      socket.on('error', ignore);
      secure.destroy();
      socket.destroy();
      reject(error as Error);
    };
    const onFailure = (error?: unknown): void =>
      finish(error instanceof Error ? error : new Error('Connection closed during the TLS handshake'));
    const onSecure = (): void => finish(undefined);
    const ignore = (): void => undefined;
    const cancel = clock.after(timeoutMs, () => finish(new Error('Waited too long for the TLS handshake')));
    for (const event of ['error', '_tlsError', 'close']) secure.on(event, onFailure);
    secure.on('secure', onSecure);
    socket.on('error', ignore);
  });
}

/**
 * Makes a self-signed certificate at first start; an existing pair is kept unless it ends within 30 days and is our own.
 * Files: `key.pem` (mode 0600) and `cert.pem` in `folder`.
 */
export async function ensureSelfSigned(
  folder: string,
  names: readonly string[],
  clock: Clock,
): Promise<CertificateFiles> {
  const files = { key: path.join(folder, 'key.pem'), cert: path.join(folder, 'cert.pem') };
  const present = await readFile(files.cert).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new Error(`Cannot read certificate '${files.cert}'`, { cause: error });
  });
  if (present) {
    const info = describe(files, new X509Certificate(present));
    if (!info.selfSigned || info.notAfter > clock.now() + 30 * 86_400_000) return files;
  }
  const made = selfSignedCertificate({ names, now: clock.now() });
  await mkdir(folder, { recursive: true });
  await replace(files.key, made.key, 0o600);
  await replace(files.cert, made.cert, 0o644);
  return files;
}

async function replace(file: string, text: string, mode: number): Promise<void> {
  await writeFile(`${file}.new`, text, { mode });
  await chmod(`${file}.new`, mode);
  await rename(`${file}.new`, file);
}
