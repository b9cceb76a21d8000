// Looks into a directory once, to show what the gateway will know of the recipients, and says in one sentence what an
// administrator can do where it cannot be read.
import { createDirectoryServers } from '../compose/directory-servers.ts';
import type { Clock } from '../lib/clock.ts';
import type { LdapConnection } from '../net/ldap.ts';
import type { Dns } from '../plugin/contract.ts';
import { addressesOf } from '../recipients/directory.ts';
import type { DirectoryAnswer } from './answers.ts';

export interface DirectoryAccess {
  readonly directory: DirectoryAnswer;
  /** Of its login. */
  readonly password?: string;
  readonly dns: Dns;
  readonly clock: Clock;
}

export interface DirectoryCount {
  readonly addresses: number;
  readonly samples: readonly string[];
  /** Of each domain asked about. */
  readonly perDomain: ReadonlyMap<string, number>;
}

const sampleCount = 10;
const timeoutMs = 30_000;
/** Reading a large directory takes its time. */
const readMs = 300_000;

async function connected<T>(access: DirectoryAccess, use: (connection: LdapConnection) => Promise<T>): Promise<T> {
  const { directory, password, clock, dns } = access;
  const { at, startTls, caFile, login } = directory;
  const servers = createDirectoryServers(
    { urls: [], ...('url' in at ? { urls: [at.url] } : at), startTls, ldapsPort: 636, timeout: timeoutMs },
    {
      ...(caFile === undefined ? {} : { caFile }),
      ...(login === undefined || password === undefined ? {} : { bind: { dn: login.bindDn, password } }),
      timeoutMs,
      pageSize: 500,
    },
    { clock, dns, onChange: () => undefined },
  );
  const { connection } = await servers.connect(AbortSignal.timeout(readMs));
  try {
    return await use(connection);
  } finally {
    await connection.close();
  }
}

/** The bases that the directory names: its default one alone where it has one. Rejects as `explainRefusal` explains. */
export const namedBases = (access: DirectoryAccess): Promise<readonly string[]> =>
  connected(access, async connection => {
    const attributes = ['defaultNamingContext', 'namingContexts'] as const;
    for await (const [root] of connection.search({ base: '', scope: 'base', filter: '(objectClass=*)', attributes })) {
      const [standard] = root?.values('defaultNamingContext') ?? [];
      return standard === undefined ? (root?.values('namingContexts') ?? []) : [standard];
    }
    return [];
  });

/** What a gateway with the defaults would read below `base`. Rejects as `namedBases`. */
export const countAddresses = (
  access: DirectoryAccess,
  base: string,
  domains: readonly string[],
): Promise<DirectoryCount> =>
  connected(access, async connection => {
    const found = new Set<string>();
    const all = { base, scope: 'sub', filter: '(proxyAddresses=*)', attributes: ['proxyAddresses'] } as const;
    for await (const page of connection.search(all))
      for (const entry of page) for (const address of addressesOf(entry.values('proxyAddresses'))) found.add(address);
    const perDomain = new Map(domains.map(domain => [domain, 0]));
    for (const address of found) {
      const domain = address.slice(address.lastIndexOf('@') + 1);
      const count = perDomain.get(domain);
      if (count !== undefined) perDomain.set(domain, count + 1);
    }
    return { addresses: found.size, samples: [...found].slice(0, sampleCount), perDomain };
  });

/** The code that a server (a number, RFC 4511 §4.1.9), the system or TLS gave, and the words with it. */
function rootOf(error: unknown): { readonly code: string | number | undefined; readonly text: string } {
  let text = '';
  for (let at = error; at instanceof Error; at = at.cause) {
    text = at.message.trim() || text;
    if ('code' in at && (typeof at.code === 'string' || typeof at.code === 'number')) return { code: at.code, text };
  }
  return { code: undefined, text };
}

const unknownAuthority: readonly unknown[] = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
];

/** The certificate is by an authority that nobody here knows: `caFile` mends it. */
export const needsAuthority = (error: unknown): boolean => unknownAuthority.includes(rootOf(error).code);

/** What Active Directory adds to a refused login: Win32 error codes, in hex ([MS-ERREF] 2.2). */
const loginFaults: Readonly<Record<string, string>> = {
  '525': 'there is no such user',
  '52e': 'the user or the password is wrong',
  '530': 'the user may not log in at this time',
  '531': 'the user may not log in from this machine',
  '532': 'the password has expired',
  '533': 'the account is disabled',
  '701': 'the account has expired',
  '773': 'the password must be changed first',
  '775': 'the account is locked',
};

/** One sentence: what failed, and what to do. `base`: where was searched. */
export function explainRefusal(error: unknown, { at, login }: DirectoryAnswer, base = ''): string {
  const { code, text } = rootOf(error);
  const where = 'url' in at ? at.url : at.domain;
  const who = login?.bindDn;
  switch (code) {
    case 49: {
      const detail = loginFaults[/\bdata ([0-9a-f]{3})\b/.exec(text)?.[1] ?? ''];
      return `${where} refuses ${who ?? 'a login as nobody'}: ${detail ?? 'the user or the password is wrong'}; correct --ldap-bind or the password`;
    }
    case 8:
    case 13:
      return `${where} wants encryption: use ldaps:// or --ldap-starttls`;
    case 32:
      return `${where} shows no '${base}' to ${who ?? 'a reader without login'}: correct --ldap-base${who === undefined ? ' or give --ldap-bind' : ''}`;
    // Active Directory says 1 (operationsError) to whoever has not logged in.
    case 1:
    case 48:
    case 50:
      if (who === undefined) return `${where} shows nothing without a login: name a user that may read it, --ldap-bind`;
      break;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `The certificate of ${where} is for another name (${text}): name the server as its certificate does`;
    case 'ECONNREFUSED':
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'ETIMEDOUT':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `${where} cannot be reached (${text}): does it run, is the name right, does a firewall let this machine through?`;
  }
  if (unknownAuthority.includes(code))
    return `The certificate of ${where} is by an authority that is not known here (${code}): give its PEM file with --ldap-ca`;
  return `${where} cannot be read: ${text}`;
}
