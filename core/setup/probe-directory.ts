// Reads the addresses of an Active Directory once, to show what the gateway will know.
import { readFileSync } from 'node:fs';
import { connectLdap } from '../net/ldap.ts';
import { addressesOf } from '../recipients/directory.ts';
import type { DirectoryAnswer } from './answers.ts';

export type DirectoryProbe =
  | {
      readonly kind: 'read';
      readonly count: number;
      readonly samples: readonly string[];
      /** Of the domains asked about, those without any address. */
      readonly empty: readonly string[];
    }
  | { readonly kind: 'failed'; readonly why: string };

const sampleCount = 10;
const timeoutMs = 30_000;

/** Never rejects. `passwordFile` as the configuration will resolve it. */
export async function probeDirectory(
  directory: DirectoryAnswer,
  passwordFile: string | undefined,
  domains: readonly string[],
): Promise<DirectoryProbe> {
  try {
    const bind =
      directory.bindDn === undefined || passwordFile === undefined
        ? {}
        : { bind: { dn: directory.bindDn, password: readFileSync(passwordFile, 'utf8').replace(/\r?\n$/, '') } };
    const options = { url: directory.url, startTls: false, timeoutMs, pageSize: 500, ...bind };
    const ca = directory.caFile === undefined ? {} : { caFile: directory.caFile };
    const connection = await connectLdap({ ...options, ...ca }, AbortSignal.timeout(timeoutMs));
    try {
      let base = '';
      const root = {
        base: '',
        scope: 'base',
        filter: '(objectClass=*)',
        attributes: ['defaultNamingContext', 'namingContexts'],
      } as const;
      for await (const page of connection.search(root))
        for (const entry of page)
          base ||= entry.values('defaultNamingContext')[0] ?? entry.values('namingContexts')[0] ?? '';
      const found = new Set<string>();
      const all = { base, scope: 'sub', filter: '(proxyAddresses=*)', attributes: ['proxyAddresses'] } as const;
      for await (const page of connection.search(all))
        for (const entry of page) for (const address of addressesOf(entry.values('proxyAddresses'))) found.add(address);
      const list = [...found];
      return {
        kind: 'read',
        count: list.length,
        samples: list.slice(0, sampleCount),
        empty: domains.filter(domain => !list.some(address => address.toLowerCase().endsWith(`@${domain}`))),
      };
    } finally {
      await connection.close();
    }
  } catch (error) {
    return { kind: 'failed', why: (error as Error).message };
  }
}
