// Under which sender rules send mail on: a plugin of the chain may rewrite it (SRS), as it does for other forwarded mail.
import type { Host } from '../plugin/contract.ts';

export interface Forwarding {
  /** Itself where nobody rewrites. */
  senderFor(sender: string, recipient: string): string;
}

export const createForwarding = (rewriter: () => Parameters<Host['onForward']>[0] | undefined): Forwarding => ({
  senderFor: (sender, recipient) => rewriter()?.(sender, recipient) ?? sender,
});
