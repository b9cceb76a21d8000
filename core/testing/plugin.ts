// Drives one plugin through the real chain: options by its schema, hooks under their deadline, edits applied. Nothing of
// a session is imitated here. Free of any test runner, for it is what plugin authors get as `postern/testing`.
import type { Address } from '../mail/address.ts';
import type { Envelope, Recipient } from '../mail/envelope.ts';
import type { Message } from '../mail/message.ts';
import type { Reply } from '../mail/reply.ts';
import type { ChainSession, MessageOutcome } from '../pipeline/chain.ts';
import { loadChain } from '../pipeline/load-chain.ts';
import type { ChainEntry } from '../pipeline/loaded-entry.ts';
import type { Plugin, Session } from '../plugin/contract.ts';
import { type HostSetup, type TestHost, testHost } from './plugin-host.ts';
import { parseAddress, testMessage } from './test-message.ts';

export interface PluginSetup extends HostSetup {
  /** A host that is there already; it is then not closed with the plugin. */
  readonly host?: TestHost;
  readonly timeoutMs?: number;
  readonly onError?: 'defer' | 'continue';
  readonly mode?: 'enforce' | 'observe';
  /** Entries before the plugin, for annotations that it reads. */
  readonly before?: readonly ChainEntry[];
}

/** What the plugin answered (`error` when it failed), and what the chain made of it. */
export interface Answered<Outcome> {
  readonly kind: string;
  readonly reply?: Reply;
  readonly why?: string;
  readonly evidence?: Readonly<Record<string, unknown>>;
  readonly outcome: Outcome;
}

export interface ClientFacts {
  readonly remote?: string;
  readonly name?: string;
  readonly role?: Session['role'];
  readonly tls?: boolean;
  /** Login name of who is authenticated already. */
  readonly identity?: string;
}
export type MailFacts = Partial<Omit<Envelope, 'sender' | 'recipients'>>;
type Outcome = { readonly kind: string; readonly reply?: Reply };

export interface DrivenPlugin {
  readonly host: TestHost;
  /** A new session; the old one ends. */
  connect(client?: ClientFacts): Promise<Answered<Outcome>>;
  helo(name: string): Promise<Answered<Outcome>>;
  auth(username: string, password: string, mechanism?: string): Promise<Answered<Outcome>>;
  /** The end of a SCRAM exchange, or of `mechanism`: whether the proof is the account's. */
  sasl(username: string, holds: boolean, mechanism?: string): Promise<Answered<Outcome>>;
  /** A new transaction; `null` is the null sender. */
  mail(sender: string | null, facts?: MailFacts): Promise<Answered<Outcome>>;
  /** Accepted recipients stay in the envelope; one that nobody refused does so too, for other plugins decide of it. */
  rcpt(to: string): Promise<Answered<Outcome>>;
  /** Text with LF or CRLF line ends, bytes as they are, or a message. */
  message(content: string | Buffer | Message): Promise<Answered<MessageOutcome>>;
  steps(): ReturnType<ChainSession['steps']>;
  status(): Promise<Readonly<Record<string, unknown>>>;
  /** The client goes away. */
  end(): void;
  close(): Promise<void>;
}

const sessionOf = (serial: number, client: ClientFacts): Session => ({
  id: `s${serial}`,
  listener: client.role ?? 'smtp',
  role: client.role ?? 'smtp',
  local: { address: '127.0.0.1', port: 25 },
  remote: {
    address: client.remote ?? '192.0.2.1',
    port: 40_000 + serial,
    ...(client.name ? { name: client.name } : {}),
  },
  ...(client.tls ? { tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256' } } : {}),
});

/** @throws ChainError where the options do not validate or `setup` fails. */
export async function plugin<Options>(
  tested: Plugin<Options>,
  options: unknown = {},
  setup: PluginSetup = {},
): Promise<DrivenPlugin> {
  const host = setup.host ?? (await testHost(setup));
  const entry: ChainEntry = {
    name: tested.name,
    plugin: tested as Plugin<unknown>,
    options,
    timeoutMs: setup.timeoutMs ?? 60_000,
    onError: setup.onError ?? 'defer',
    mode: setup.mode ?? 'enforce',
  };
  const deps = { clock: host.clock, log: host.log, hostFor: () => host };
  const closeHost = async (): Promise<void> => (setup.host ? undefined : host.close());
  const chain = await loadChain([...(setup.before ?? []), entry], deps).catch(async error => {
    await closeHost();
    throw error;
  });

  let serial = 0;
  let session: ChainSession | undefined;
  let sender: Address | null = null;
  let facts: MailFacts = {};
  let recipients: Recipient[] = [];

  function open(client: ClientFacts): ChainSession {
    session?.end();
    const facts = sessionOf(++serial, client);
    session = chain.openSession(facts);
    if (client.identity !== undefined) session.update(facts, { name: client.identity, mechanism: 'PLAIN' });
    return session;
  }
  const current = (): ChainSession => session ?? open({});
  const envelope = (): Envelope => ({ smtputf8: false, requireTls: false, ...facts, sender, recipients });

  async function answered<T extends Outcome | MessageOutcome>(hook: string, run: Promise<T>): Promise<Answered<T>> {
    const outcome = await run;
    const step = current()
      .steps()
      .findLast(candidate => candidate.hook === hook && candidate.plugin === tested.name);
    const mine = outcome.kind === 'refused' && 'plugin' in outcome && outcome.plugin === tested.name;
    return {
      kind: step?.verdict ?? 'not asked',
      ...(mine && 'reply' in outcome && outcome.reply ? { reply: outcome.reply } : {}),
      ...(step?.why === undefined ? {} : { why: step.why }),
      ...(step?.evidence === undefined ? {} : { evidence: step.evidence }),
      outcome,
    };
  }

  return {
    host,
    connect: (client = {}) => answered('connect', open(client).connect()),
    helo: name => answered('helo', current().helo(name)),
    auth: (username, password, mechanism = 'PLAIN') =>
      answered('auth', current().auth({ username, password, mechanism })),
    async sasl(username, holds, mechanism = 'SCRAM-SHA-256') {
      const exchange = `x${++serial}`;
      host.proofs.set(exchange, { username, holds });
      const answer = await answered('sasl', current().sasl({ mechanism, username, exchange }));
      host.proofs.delete(exchange);
      return answer;
    },
    mail(from, given = {}) {
      sender = from === null ? null : parseAddress(from);
      facts = given;
      recipients = [];
      return answered('mail', current().mail(`q${++serial}`, envelope()));
    },
    async rcpt(to) {
      const recipient: Recipient = { address: parseAddress(to) };
      const answer = await answered('rcpt', current().rcpt(envelope(), recipient));
      if (['accept', 'continue', 'not asked'].includes(answer.kind)) recipients = [...recipients, recipient];
      return answer;
    },
    message: async content => answered('message', current().message(envelope(), testMessage(content))),
    steps: () => current().steps(),
    status: async () => (await chain.status()).at(-1)?.values ?? {},
    end: () => session?.end(),
    async close() {
      session?.end();
      await chain.close();
      await closeHost();
    },
  };
}
