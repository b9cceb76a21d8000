// Real engines (clamd, Dovecot, swaks …) are tested where they are installed. Where one is missing the test is skipped
// loudly: `test/run.ts` lists every skip at the end, and with POSTERN_REQUIRE_ENGINES=1 (CI) a missing engine fails.
import { appendFileSync, existsSync } from 'node:fs';
import path from 'node:path';

interface SkippableTest {
  fail(message: string): unknown;
  /** A plan of nothing is how tap marks a test as skipped. */
  plan(count: number, reason: string): unknown;
}

/** Debian package of each engine and the program that shows it is there. */
export const engines = {
  swaks: { program: 'swaks', package: 'swaks' },
  curl: { program: 'curl', package: 'curl' },
  msmtp: { program: 'msmtp', package: 'msmtp' },
  mbsync: { program: 'mbsync', package: 'isync' },
  offlineimap: { program: 'offlineimap', package: 'offlineimap3' },
  fetchmail: { program: 'fetchmail', package: 'fetchmail' },
  dovecot: { program: 'dovecot', package: 'dovecot-imapd' },
  'dovecot-pop3': { program: '/usr/lib/dovecot/pop3', package: 'dovecot-pop3d' },
  'dovecot-lmtp': { program: '/usr/lib/dovecot/lmtp', package: 'dovecot-lmtpd' },
  'sieve-test': { program: 'sieve-test', package: 'dovecot-sieve' },
  'sieve-connect': { program: 'sieve-connect', package: 'sieve-connect' },
  postfix: { program: 'postfix', package: 'postfix' },
  rbldnsd: { program: 'rbldnsd', package: 'rbldnsd' },
  unbound: { program: 'unbound', package: 'unbound' },
  clamd: { program: 'clamd', package: 'clamav-daemon' },
  'clamav-milter': { program: 'clamav-milter', package: 'clamav-milter' },
  spamd: { program: 'spamd', package: 'spamd' },
  rspamd: { program: 'rspamd', package: 'rspamd' },
  opendkim: { program: 'opendkim', package: 'opendkim' },
  'ldns-signzone': { program: 'ldns-signzone', package: 'ldnsutils' },
  ldapmodify: { program: 'ldapmodify', package: 'ldap-utils' },
  slapd: { program: 'slapd', package: 'slapd' },
  redis: { program: 'redis-server', package: 'redis-server' },
  mutt: { program: 'mutt', package: 'mutt' },
  openssl: { program: 'openssl', package: 'openssl' },
  php: { program: 'php', package: 'php-cli' },
  'net-sieve': { program: '/usr/share/php/Net/Sieve.php', package: 'php-net-sieve' },
  perl: { program: 'perl', package: 'perl' },
  python3: { program: 'python3', package: 'python3' },
  zip: { program: 'zip', package: 'zip' },
  '7z': { program: '7z', package: 'p7zip-full' },
  bzip2: { program: 'bzip2', package: 'bzip2' },
  xz: { program: 'xz', package: 'xz-utils' },
  zstd: { program: 'zstd', package: 'zstd' },
  lz4: { program: 'lz4', package: 'lz4' },
  compress: { program: 'compress', package: 'ncompress' },
  arj: { program: 'arj', package: 'arj' },
  genisoimage: { program: 'genisoimage', package: 'genisoimage' },
  'mail-srs': { program: '/usr/share/perl5/Mail/SRS.pm', package: 'libmail-srs-perl' },
} as const;
export type Engine = keyof typeof engines;

const searchPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** Absolute path of an engine's program, or undefined where it is not installed. */
export function findEngine(engine: Engine): string | undefined {
  const { program } = engines[engine];
  if (program.startsWith('/')) return existsSync(program) ? program : undefined;
  return searchPath.map(folder => path.join(folder, program)).find(file => existsSync(file));
}

/** True where all engines are there. Otherwise the test is skipped and recorded, or failed where skipping is forbidden. */
export function requireEngines(t: SkippableTest, name: string, ...wanted: readonly Engine[]): boolean {
  const missing = wanted.filter(engine => findEngine(engine) === undefined);
  if (missing.length === 0) return true;
  const skipFile = process.env['POSTERN_SKIP_FILE'];
  if (skipFile)
    appendFileSync(skipFile, `${JSON.stringify({ name, packages: missing.map(engine => engines[engine].package) })}\n`);
  if (process.env['POSTERN_REQUIRE_ENGINES'] === '1') t.fail(`Engines missing: ${missing.join(', ')}`);
  else t.plan(0, `not installed: ${missing.join(', ')}`);
  return false;
}
