// The directory that knows the recipients, an Active Directory before an Exchange: where it is, who reads it, and what it
// shows. A password that is typed is stored beside the configuration, readable for this user only.
import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { UsageError } from '../cli/context.ts';
import { readSecret } from '../compose/secret.ts';
import type { SecretReference } from '../config/schema.ts';
import { parseDomain } from '../mail/address.ts';
import { ldapIsPrivate } from '../net/ldap.ts';
import type { DirectoryAnswer, Kind } from './answers.ts';
import { type Collector, checked, domainFault, obtain } from './collector.ts';
import { countAddresses, explainRefusal, namedBases, needsAuthority } from './probe-directory.ts';

export interface SecretFile {
  readonly file: string;
  readonly text: string;
}

export interface DirectoryChoice {
  readonly answer: DirectoryAnswer;
  readonly password?: string;
  /** The password, where it was typed and must be stored. */
  readonly secret?: SecretFile;
}

const isUrl = (text: string): boolean => /^ldaps?:\/\/[^/\s]+\/?$/.test(text);
const urlFault = (text: string): string | undefined =>
  text === 'none' || isUrl(text) ? undefined : `'${text}' is neither ldap://host, ldaps://host nor none`;
const placeFault = (text: string): string | undefined =>
  urlFault(text) === undefined || domainFault(text) === undefined
    ? undefined
    : `'${text}' is neither a domain, ldap://host, ldaps://host nor none`;
const userFault = (text: string): string | undefined =>
  text === 'anonymous' || /[@=\\]/.test(text)
    ? undefined
    : `'${text}' is neither user@domain nor a DN such as cn=reader,dc=corp,dc=example`;
const baseFault = (text: string): string | undefined =>
  /^[A-Za-z0-9][\w.-]*\s*=/.test(text) ? undefined : `'${text}' is no DN such as dc=corp,dc=example`;

function fileFault(collector: Collector, file: string): string | undefined {
  try {
    accessSync(path.resolve(collector.context.workingFolder, file), constants.R_OK);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Undefined: no directory. */
async function placeOf(collector: Collector, last: DirectoryAnswer | undefined) {
  const { ldap, ldapDomain } = collector.flags;
  if (ldap !== undefined && ldapDomain !== undefined)
    throw new UsageError('Either --ldap or --ldap-domain: both name the servers');
  if (ldapDomain !== undefined) checked(ldapDomain, '--ldap-domain', domainFault);
  if (ldap !== undefined) checked(ldap, '--ldap', urlFault);
  const text = await obtain(
    collector,
    ldap ?? ldapDomain,
    '--ldap',
    'Active Directory with the recipients: its domain (corp.example) or a server (ldaps://dc1.corp.example)',
    last ? ('url' in last.at ? last.at.url : last.at.domain) : 'none',
    placeFault,
  );
  if (text === 'none') return undefined;
  return isUrl(text) ? { url: text } : { domain: parseDomain(text) ?? text };
}

/** The reference that stands in the configuration, and what it leads to. */
async function passwordOf(
  { context, flags, questions, silent, configFile }: Collector,
  bindDn: string,
  last: DirectoryChoice | undefined,
): Promise<{ readonly reference: SecretReference; readonly password: string; readonly secret?: SecretFile }> {
  const { ldapPasswordFile, ldapPasswordEnv } = flags;
  const folder = path.dirname(configFile);
  const beside = 'ldap-password';
  const file = path.join(folder, beside);
  if (ldapPasswordFile !== undefined && ldapPasswordEnv !== undefined)
    throw new UsageError('Either --ldap-password-file or --ldap-password-env');
  const given: SecretReference | undefined =
    ldapPasswordEnv !== undefined
      ? { env: ldapPasswordEnv }
      : ldapPasswordFile !== undefined
        ? { file: path.resolve(context.workingFolder, ldapPasswordFile) }
        : undefined;
  const typed = last?.secret?.text;
  if (!given && !silent) {
    const text = await questions.secret(
      `Password of ${bindDn} (not shown; kept in ${file})`,
      typed !== undefined || existsSync(file),
    );
    const password = text === '' ? typed : text;
    if (password !== undefined) return { reference: { file: beside }, password, secret: { file, text: password } };
  }
  if (!given && !existsSync(file))
    throw new UsageError('--ldap-password-file or --ldap-password-env is needed with --ldap-bind');
  const reference = given ?? { file: beside };
  const password = readSecret(reference, folder, context.env);
  const flag = ldapPasswordEnv !== undefined ? '--ldap-password-env' : '--ldap-password-file';
  if (password instanceof Error) throw new UsageError(`${flag}: ${password.message}`);
  // RFC 4513 §5.1.2: with an empty one many servers let anybody in, as nobody.
  if (password === '') throw new UsageError(`${flag}: the password is empty`);
  return { reference, password };
}

async function chosen(collector: Collector, last: DirectoryChoice | undefined): Promise<DirectoryChoice | undefined> {
  const { context, flags } = collector;
  const at = await placeOf(collector, last?.answer);
  if (!at) return undefined;
  const bindDn = await obtain(
    collector,
    flags.ldapBind,
    '--ldap-bind',
    'User that may read it (user@corp.example or a DN)',
    last?.answer.login?.bindDn ?? 'anonymous',
    userFault,
  );
  const login = bindDn === 'anonymous' ? undefined : await passwordOf(collector, bindDn, last);
  if (!login && (flags.ldapPasswordFile !== undefined || flags.ldapPasswordEnv !== undefined))
    throw new UsageError('--ldap-bind is needed: whose password is it?');
  const caFile = flags.ldapCa ?? last?.answer.caFile;
  if (caFile !== undefined) checked(caFile, '--ldap-ca', text => fileFault(collector, text));
  if (flags.ldapBase !== undefined) checked(flags.ldapBase, '--ldap-base', baseFault);
  const inClear = 'url' in at && !ldapIsPrivate({ url: at.url, startTls: false });
  const answer: DirectoryAnswer = {
    at,
    // A password must not cross the network in clear, and the gateway would not send it.
    startTls: flags.ldapStarttls === true || (login !== undefined && inClear),
    ...(caFile === undefined ? {} : { caFile: path.resolve(context.workingFolder, caFile) }),
    ...(login ? { login: { bindDn, password: login.reference } } : {}),
    ...(flags.ldapBase === undefined ? {} : { base: flags.ldapBase }),
  };
  return {
    answer,
    ...(login ? { password: login.password } : {}),
    ...(login?.secret ? { secret: login.secret } : {}),
  };
}

/** Where to search: as told, or as the directory says. */
async function baseOf(collector: Collector, answer: DirectoryAnswer, named: readonly string[]): Promise<string> {
  const { silent, say } = collector;
  if (named.length > 0) say(`  It names ${named.join(' and ')}`);
  if (answer.base !== undefined) return answer.base;
  const [only] = named.length === 1 ? named : [];
  if (silent && only !== undefined) return only;
  return obtain(collector, undefined, '--ldap-base', 'Where to search in it', only ?? '', baseFault);
}

/** What it shows, said to the administrator. `read`: it could be read. */
async function look(
  collector: Collector,
  choice: DirectoryChoice,
  domains: readonly string[],
): Promise<{ readonly answer: DirectoryAnswer; readonly read: boolean }> {
  const { context, dns, questions, silent, say } = collector;
  let { answer } = choice;
  say(`Reading ${'url' in answer.at ? answer.at.url : `the directory of ${answer.at.domain}`} …`);
  for (;;) {
    let base = answer.base;
    const access = () => ({
      directory: answer,
      ...(choice.password === undefined ? {} : { password: choice.password }),
      dns,
      clock: context.clock,
    });
    try {
      const named = await namedBases(access());
      base = await baseOf(collector, answer, named);
      if (named.length !== 1 || base !== named[0]) answer = { ...answer, base };
      const count = await countAddresses(access(), base, domains);
      say(`  ${count.addresses} addresses${count.addresses === 0 ? '' : `, such as ${count.samples.join(', ')}`}`);
      if (count.addresses === 0)
        say(
          `  ${answer.login?.bindDn ?? 'A reader without login'} sees no proxyAddresses below ${base}: give it the right to read them, or correct the base`,
        );
      for (const [domain, addresses] of count.perDomain)
        say(
          addresses > 0
            ? `  ${domain}: ${addresses}`
            : `  ${domain}: none; until there are some, its mail is put off (451)`,
        );
      return { answer, read: count.addresses > 0 };
    } catch (error) {
      if (error instanceof UsageError) throw error;
      say(`  Not read: ${explainRefusal(error, answer, base)}`);
      if (silent || answer.caFile !== undefined || !needsAuthority(error)) return { answer, read: false };
    }
    const file = await questions.ask('PEM file of that authority', 'none', text =>
      text === 'none' ? undefined : fileFault(collector, text),
    );
    if (file === 'none') return { answer, read: false };
    answer = { ...answer, caFile: path.resolve(context.workingFolder, file) };
  }
}

/** Asked for before an Exchange only. */
export async function directoryOf(
  collector: Collector,
  kind: Kind,
  domains: readonly string[],
): Promise<DirectoryChoice | undefined> {
  const { flags, silent, questions, say } = collector;
  const place = flags.ldap ?? flags.ldapDomain;
  if (kind === 'local' || (place === undefined && (silent || kind !== 'exchange'))) return undefined;
  const isOpen = [place, flags.ldapBind, flags.ldapPasswordFile ?? flags.ldapPasswordEnv].includes(undefined);
  for (let last: DirectoryChoice | undefined; ; ) {
    const choice = await chosen(collector, last);
    if (!choice) return undefined;
    const { answer, read } = await look(collector, choice, domains);
    const looked = { ...choice, answer };
    if (read) return looked;
    if (silent || !isOpen || !(await questions.confirm('Answer again about the directory?', true))) {
      say("  The configuration is written all the same; 'postern doctor' asks again.");
      return looked;
    }
    last = looked;
  }
}
