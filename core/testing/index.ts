// `postern/testing`: drives a plugin through the real chain, with a real DNS server on loopback, and checks what every plugin
// must do. No test runner is needed, and any can be used.

export { type Check, compliance, type Sample } from './compliance.ts';
export { type DnsFault, type DnsNode, type DnsServer, startDnsServer, type Zone } from './dns-server.ts';
export { type HeldClock, heldClock } from './held-clock.ts';
export {
  type Answered,
  type ClientFacts,
  type DrivenPlugin,
  type MailFacts,
  type PluginSetup,
  plugin,
} from './plugin.ts';
export { type FakeAccounts, type HostSetup, type TestHost, testHost } from './plugin-host.ts';
export { parseAddress, testMessage } from './test-message.ts';
