// postern dkim keygen DOMAIN SELECTOR
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import path from 'node:path';
import { parseDomain } from '../mail/address.ts';
import { keyRecord } from '../mail/dkim-key.ts';
import { type CliContext, type ExitCode, exitCodes, print, UsageError } from './context.ts';

export interface DkimKeygenOptions {
  readonly type?: string;
  readonly bits?: string;
  readonly out?: string;
}

const selectorSyntax = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;

export function makeKey({ type = 'rsa', bits = '2048' }: DkimKeygenOptions): KeyObject {
  if (type === 'ed25519') return generateKeyPairSync('ed25519').privateKey;
  if (type !== 'rsa') throw new UsageError(`Type '${type}' is unknown: 'rsa' or 'ed25519'`);
  const size = Number(bits);
  // RFC 8301 §3.2: at least 1024, should be 2048; verifiers need not take more than 4096.
  if (!Number.isInteger(size) || size < 1024 || size > 4096)
    throw new UsageError(`RSA keys for DKIM have 1024 to 4096 bits, found '${bits}'`);
  return generateKeyPairSync('rsa', { modulusLength: size }).privateKey;
}

/** As a zone file has it: strings of at most 255 octets (RFC 1035 §3.3.14). */
export function zoneLine(name: string, record: string): string {
  const strings = (record.match(/.{1,255}/g) ?? []).map(text => `"${text}"`);
  return strings.length === 1
    ? `${name}. IN TXT ${strings[0]}`
    : `${name}. IN TXT (\n${strings.map(text => `  ${text}`).join('\n')}\n)`;
}

/** Never overwrites: a key that is in use must not be lost. */
export async function writeKey(file: string, key: KeyObject): Promise<void> {
  const refuse = (cause: NodeJS.ErrnoException): never => {
    if (cause.code === 'EEXIST' && cause.syscall === 'open')
      throw new UsageError(`'${file}' exists already: take another selector`, exitCodes.negative);
    throw new UsageError(`Cannot write '${file}': ${cause.message}`, exitCodes.internal);
  };
  await mkdir(path.dirname(file), { recursive: true, mode: 0o750 }).catch(refuse);
  const handle = await open(file, 'wx', 0o600).catch(refuse);
  try {
    await handle.writeFile(key.export({ type: 'pkcs8', format: 'pem' }));
    await handle.sync();
  } catch (error) {
    // Half a key would be taken for one.
    await rm(file, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
}

export async function dkimKeygen(
  context: CliContext,
  domainName: string,
  selector: string,
  options: DkimKeygenOptions,
): Promise<ExitCode> {
  const domain = domainName.startsWith('[') ? undefined : parseDomain(domainName.replace(/\.$/, ''));
  if (!domain?.includes('.')) throw new UsageError(`'${domainName}' is no domain`);
  if (!selectorSyntax.test(selector)) throw new UsageError(`'${selector}' is no selector: letters, digits, '-'`);
  const configFolder = path.dirname(path.resolve(context.workingFolder, context.configFile));
  const folder =
    options.out === undefined ? path.join(configFolder, 'dkim') : path.resolve(context.workingFolder, options.out);
  const file = path.join(folder, `${domain}.${selector}.pem`);
  const key = makeKey(options);
  await writeKey(file, key);
  const name = `${selector}._domainkey.${domain}`;
  const record = keyRecord(key);
  const configured = path.relative(configFolder, file);
  const shown = configured.startsWith('..') ? file : configured;
  print(context, { domain, selector, file, name, type: 'TXT', record }, () =>
    [
      `Private key: ${file} (readable for this user only; the gateway must be able to read it)`,
      '',
      'Publish:',
      zoneLine(name, record),
      '',
      'Configure, as the last entry of the chain:',
      '  - dkim-sign:',
      '      keys:',
      `        - { domain: ${domain}, selector: ${selector}, key: ${shown} }`,
    ].join('\n'),
  );
  return exitCodes.ok;
}
