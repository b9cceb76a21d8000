// A real slapd whose schema and entries look like those of Active Directory. The server does not count changes as a
// domain controller does, so this keeps `uSNChanged` and, on demand, what the root entry says of it.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findEngine } from './engine.ts';
import { type EngineProcess, engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePorts } from './gateway-process.ts';
import { root } from './root.ts';

export interface AdObject {
  readonly kind: 'user' | 'group' | 'contact' | 'publicFolder';
  readonly cn: string;
  readonly proxyAddresses?: readonly string[];
}

export interface SlapdOptions {
  /** Certificate and key: offers ldaps:// and StartTLS. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** The root entry tells the highest number, as that of a domain controller; false: clients must look for it. */
  readonly rootDse?: boolean;
  /** Controls that the root entry lists besides those that slapd has. */
  readonly controls?: readonly string[];
  /** Most entries of one answer to others than the root account. */
  readonly sizeLimit?: string;
}

export interface Slapd {
  readonly url: string;
  readonly ldapsUrl: string;
  readonly bindDn: string;
  readonly password: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  process(): EngineProcess;
  add(...objects: readonly AdObject[]): void;
  /** Before the first start: many at once. */
  load(objects: readonly AdObject[]): void;
  setAddresses(cn: string, proxyAddresses: readonly string[]): void;
  remove(cn: string): void;
  /** As after a restore from backup: its numbers count anew. */
  renewInvocation(): void;
}

const suffix = 'dc=corp,dc=test';
const password = 'directory-secret';
const dnOf = (cn: string): string => `cn=${cn},${suffix}`;
const run = (program: string, args: readonly string[], input: string): void => {
  const result = spawnSync(program, args, { input, encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${program} failed: ${result.error?.message ?? ''}${result.stderr}`);
};

export async function makeSlapd(t: Teardown, options: SlapdOptions = {}): Promise<Slapd> {
  const folder = await engineFolder(t, 'slapd');
  const [port = 0, tlsPort = 0] = await freePorts(2);
  const file = (name: string): string => path.join(folder, name);
  await mkdir(file('db'));
  const rootDn = `cn=admin,${suffix}`;
  const lines = [
    ...['core', 'cosine', 'inetorgperson'].map(name => `include /etc/ldap/schema/${name}.schema`),
    `include ${path.join(root, 'test/harness/ad-like.schema')}`,
    `pidfile ${file('pid')}`,
    'modulepath /usr/lib/ldap',
    'moduleload back_mdb',
    ...(options.tls ? [`TLSCertificateFile ${options.tls.cert}`, `TLSCertificateKeyFile ${options.tls.key}`] : []),
    ...(options.rootDse ? [`rootDSE ${file('root.ldif')}`] : []),
    'database mdb',
    `suffix "${suffix}"`,
    `rootdn "${rootDn}"`,
    'rootpw admin',
    `directory ${file('db')}`,
    'maxsize 104857600',
    'dbnosync',
    'index objectClass,uSNChanged eq',
    `limits dn.exact="${dnOf('reader')}" size.soft=${options.sizeLimit ?? '1000'} size.prtotal=unlimited`,
    'access to attrs=userPassword by anonymous auth by * none',
    `access to * by dn.exact="${dnOf('reader')}" read by anonymous auth`,
    '',
  ];
  await writeFile(file('slapd.conf'), lines.join('\n'));
  const program = findEngine('slapd');
  if (!program) throw new Error('slapd is not installed');
  let usn = 1000;
  const tell = async (): Promise<void> => {
    if (!options.rootDse) return;
    const controls = (options.controls ?? []).map(oid => `supportedControl: ${oid}\n`).join('');
    const text = `dn:\nhighestCommittedUSN: ${usn}\ndsServiceName: cn=ntds,${suffix}\ndefaultNamingContext: ${suffix}\n${controls}`;
    await writeFile(file('root.ldif'), text);
  };
  await tell();

  const ldif = ({ kind, cn, proxyAddresses = [] }: AdObject): string =>
    [
      `dn: ${dnOf(cn)}`,
      `objectClass: ${kind}`,
      `cn: ${cn}`,
      ...proxyAddresses.map(each => `proxyAddresses: ${each}`),
      `objectGUID:: ${randomBytes(16).toString('base64')}`,
      `uSNChanged: ${++usn}`,
      '',
      '',
    ].join('\n');
  const base = [
    `dn: ${suffix}\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n`,
    `dn: ${dnOf('reader')}\nobjectClass: user\ncn: reader\nuserPassword: ${password}\nuSNChanged: 1\n\n`,
    `dn: ${dnOf('ntds')}\nobjectClass: nTDSDSA\ncn: ntds\ninvocationId:: ${randomBytes(16).toString('base64')}\n\n`,
  ].join('');
  run('slapadd', ['-q', '-f', file('slapd.conf')], base);

  let engine: EngineProcess | undefined;
  const url = `ldap://127.0.0.1:${port}`;
  const change = (text: string): void => run('ldapmodify', ['-x', '-H', url, '-D', rootDn, '-w', 'admin'], text);
  return {
    url,
    ldapsUrl: `ldaps://localhost:${tlsPort}`,
    bindDn: dnOf('reader'),
    password,
    async start() {
      await tell();
      const urls = options.tls ? `${url}/ ldaps://127.0.0.1:${tlsPort}/` : `${url}/`;
      engine = startEngine(t, program, ['-d', '0', '-f', file('slapd.conf'), '-h', urls]);
      for (const each of options.tls ? [port, tlsPort] : [port]) await untilAccepts({ port: each, host: '127.0.0.1' });
    },
    async stop() {
      await engine?.kill();
    },
    process() {
      if (!engine) throw new Error('slapd does not run');
      return engine;
    },
    add: (...objects) => run('ldapadd', ['-x', '-H', url, '-D', rootDn, '-w', 'admin'], objects.map(ldif).join('')),
    load: objects => run('slapadd', ['-q', '-f', file('slapd.conf')], objects.map(ldif).join('')),
    setAddresses(cn, proxyAddresses) {
      const values = proxyAddresses.map(each => `proxyAddresses: ${each}\n`).join('');
      change(
        `dn: ${dnOf(cn)}\nchangetype: modify\nreplace: proxyAddresses\n${values}-\nreplace: uSNChanged\nuSNChanged: ${++usn}\n`,
      );
    },
    remove(cn) {
      usn += 1;
      change(`dn: ${dnOf(cn)}\nchangetype: delete\n`);
    },
    renewInvocation: () =>
      change(
        `dn: ${dnOf('ntds')}\nchangetype: modify\nreplace: invocationId\ninvocationId:: ${randomBytes(16).toString('base64')}\n`,
      ),
  };
}
