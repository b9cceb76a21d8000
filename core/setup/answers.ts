// What `postern setup` must know before it writes anything: from flags, from questions, or by default.
import type { SecretReference } from '../config/schema.ts';
import type { BackendFacts } from './probe-backend.ts';

export const kinds = ['exchange', 'microsoft365', 'smtp', 'local'] as const;
export type Kind = (typeof kinds)[number];

export interface DkimAnswer {
  readonly domain: string;
  readonly selector: string;
  /** As the configuration names it. */
  readonly file: string;
  /** Of the record at SELECTOR._domainkey.DOMAIN. */
  readonly record: string;
}

/** As `directories[]` of the configuration. */
export interface DirectoryAnswer {
  /** A server by its URL, or those that the SRV records of a domain name. */
  readonly at: { readonly url: string } | { readonly domain: string };
  readonly startTls: boolean;
  readonly caFile?: string;
  /** Absent: anonymous. */
  readonly login?: { readonly bindDn: string; readonly password: SecretReference };
  /** Absent: what the directory names itself. */
  readonly base?: string;
}

export interface Answers {
  readonly kind: Kind;
  readonly hostname: string;
  readonly domains: readonly string[];
  readonly dataDir: string;
  /** `host` and port of the server behind; absent for `local`. */
  readonly backend?: { readonly host: string; readonly port: number; readonly facts?: BackendFacts };
  /** Who the recipients are, where a directory knows them. */
  readonly directory?: DirectoryAnswer;
  /** Take the certificate that the backend shows, and no other. */
  readonly pin: boolean;
  /** Address and port that mail from the world comes to. */
  readonly listen: { readonly address: string; readonly port: number };
  /** Port for the outgoing mail of the server behind; absent: it does not send through here. */
  readonly outboundPort?: number;
  /** Networks that the server behind sends from. */
  readonly backendNetworks: readonly string[];
  /** Engines that were found on this machine. */
  readonly engines: readonly Engine[];
  /** The Spamhaus list answers here. */
  readonly dnsbl: boolean;
  readonly dkim: readonly DkimAnswer[];
  /** Addresses that the world reaches this machine by, for the DNS records. */
  readonly addresses: readonly string[];
}

export interface Engine {
  readonly plugin: 'clamav' | 'rspamd' | 'spamassassin';
  readonly endpoint: string;
}
