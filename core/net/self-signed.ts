// A self-signed X.509 certificate (RFC 5280) without any program or package: node:crypto makes keys and signatures but no
// certificates, so the little DER that is needed is written here. EC P-256, ECDSA with SHA-256 (RFC 5758).
import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { addressBytes } from '../lib/cidr.ts';

export interface SelfSigned {
  /** PKCS #8 and certificate, PEM. */
  readonly key: string;
  readonly cert: string;
}

export interface SelfSignedOptions {
  /** Host names and IP addresses; the first is the common name, all are subjectAltNames. */
  readonly names: readonly string[];
  /** ms since the epoch. */
  readonly now: number;
  /** Default 820: some clients trust no certificate for more than 825 days. */
  readonly days?: number;
}

const dayMs = 86_400_000;

function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 128) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const sequence = (...content: readonly Uint8Array[]): Buffer => der(0x30, ...content);
const octets = (...content: readonly Uint8Array[]): Buffer => der(0x04, ...content);
const bits = (content: Uint8Array, unused = 0): Buffer => der(0x03, Buffer.from([unused]), content);
const yes = der(0x01, Buffer.from([0xff]));

function integer(value: Uint8Array): Buffer {
  const first = value[0] ?? 0;
  return first > 127 ? der(0x02, Buffer.from([0]), value) : der(0x02, value);
}

function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 127];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

/** RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');
  return Number(digits.slice(0, 4)) < 2050
    ? der(0x17, Buffer.from(digits.slice(2), 'latin1'))
    : der(0x18, Buffer.from(digits, 'latin1'));
}

function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  return sequence(oid(id), ...(critical ? [yes] : []), octets(value));
}

/** RFC 5280 §4.2.1.6: dNSName [2], iPAddress [7]. */
function subjectAltName(name: string): Buffer {
  const address = addressBytes(name);
  return address ? der(0x87, address) : der(0x82, Buffer.from(name, 'latin1'));
}

function extensions(names: readonly string[], publicKey: Buffer): Buffer {
  return der(
    0xa3,
    sequence(
      extension('2.5.29.19', true, sequence()), // basicConstraints: not a CA
      extension('2.5.29.15', true, bits(Buffer.from([0x80]), 7)), // keyUsage: digitalSignature
      extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))), // extKeyUsage: serverAuth
      extension('2.5.29.14', false, octets(createHash('sha1').update(publicKey).digest())), // subjectKeyIdentifier
      extension('2.5.29.17', false, sequence(...names.map(subjectAltName))),
    ),
  );
}

const pem = (label: string, body: Buffer): string =>
  `-----BEGIN ${label}-----\n${(body.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END ${label}-----\n`;

export function selfSignedCertificate(options: SelfSignedOptions): SelfSigned {
  const [commonName] = options.names;
  if (commonName === undefined) throw new Error('A certificate needs at least one name');
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const algorithm = sequence(oid('1.2.840.10045.4.3.2')); // ecdsa-with-SHA256
  // ub-common-name is 64 characters (RFC 5280 appendix A); the subjectAltName holds the whole.
  const subject = sequence(
    der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(commonName.slice(0, 64), 'utf8')))),
  );
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  const tbs = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(serial),
    algorithm,
    subject,
    // An hour back, for clients whose clock is a little behind.
    sequence(time(options.now - 3_600_000), time(options.now + (options.days ?? 820) * dayMs)),
    subject,
    spki,
    extensions(options.names, spki.subarray(-65)),
  );
  const certificate = sequence(tbs, algorithm, bits(sign('sha256', tbs, privateKey)));
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: pem('CERTIFICATE', certificate),
  };
}
