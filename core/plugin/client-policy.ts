// Whom policies about clients spare: our own users and networks, networks that the operator names, and recipients that must
// be reachable whatever a client is suspected of.
import { z } from '../config/schema.ts';
import { cidrSet } from '../lib/cidr.ts';
import type { Recipient } from '../mail/envelope.ts';
import type { Connected, Greeted, Host } from './contract.ts';

/** On no public list and in no public zone; asking would only tell others about our network. */
export const privateNetworks: readonly string[] = [
  '0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16', '::1/128', 'fc00::/7', 'fe80::/10',
]; // biome-ignore format: a list

/** Fields for a plugin's schema. `what`: what does not happen to those that are spared. */
export const clientPolicyFields = (what: { readonly clients: string; readonly recipients: string }) => ({
  exempt: z
    .array(z.string())
    .default([])
    .describe(`Networks that are not ${what.clients}, besides private ones, relay networks and users.`),
  exemptRecipients: z
    .array(z.string().toLowerCase())
    .default(['postmaster', 'abuse'])
    .describe(`Local parts or addresses that are not ${what.recipients} (RFC 5321 §4.5.1, RFC 2142).`),
});

export interface ClientPolicy {
  /** Nothing is asked about this client. */
  isExempt(at: Connected | Greeted): boolean;
  isSpared(to: Recipient): boolean;
}

/** Throws an Error that names the network which is none. */
export function clientPolicy(
  settings: { readonly exempt: readonly string[]; readonly exemptRecipients: readonly string[] },
  host: Pick<Host, 'isRelayClient'>,
): ClientPolicy {
  const exempt = cidrSet([...privateNetworks, ...settings.exempt]);
  return {
    isExempt(at) {
      const { address } = at.session.remote;
      return exempt.has(address) || host.isRelayClient(address) || ('identity' in at && at.identity !== undefined);
    },
    isSpared: ({ address }) =>
      [address.local, address.text].some(name => settings.exemptRecipients.includes(name.toLowerCase())),
  };
}
