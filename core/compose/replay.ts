// Recorded messages through another configuration's chain: which would end otherwise, and why. Client, HELO, TLS, identity,
// envelope and bytes are those of the recording; DNS and engines answer as of now. The `deliver` hook has effects and is
// not run; entries that judge by what came before (`Plugin.history`) are left out, and so are messages that they decided.
import type { Recipient } from '../mail/envelope.ts';
import { readMessage } from '../mail/message.ts';
import type { TraceStep } from '../mail/trace.ts';
import type { Chain, ChainSession, GateOutcome } from '../pipeline/chain.ts';
import type { StoredMail } from '../quarantine/kept-mail.ts';
import type { KeptMailStore } from '../quarantine/store.ts';
import { type Decision, decisionOf } from './recordings.ts';

/** How a message ended, or would end. */
export interface End {
  readonly decision: Decision;
  /** Who decided; '' where nobody objected. */
  readonly plugin: string;
  readonly why: string;
  /** Recipients that were refused at RCPT, each with the reason. */
  readonly refused: Readonly<Record<string, string>>;
}

export interface Flip {
  readonly id: string;
  readonly receivedAt: number;
  readonly sender: string;
  readonly recipients: readonly string[];
  readonly subject?: string;
  readonly was: End;
  readonly now: End;
  /** The running configuration would do the same today: names, engines or mailboxes changed, not the configuration. */
  readonly byConfiguration: boolean;
}

export interface ReplayReport {
  readonly messages: number;
  /** End as they did. */
  readonly same: number;
  readonly flips: readonly Flip[];
  /** A plugin or an engine failed on them, so nothing can be said. */
  readonly failed: readonly { readonly id: string; readonly plugin: string; readonly why: string }[];
  /** Decided by an entry that is not asked in a replay. */
  readonly byHistory: number;
  /** Their bytes are gone. */
  readonly lost: number;
}

type Judged = End | { readonly failed: { readonly plugin: string; readonly why: string } };

/** The entry that failed and thereby decided, if one did. */
function failureOf(steps: readonly TraceStep[], plugin: string): { plugin: string; why: string } | undefined {
  const step = steps.findLast(each => each.plugin === plugin && !each.observed);
  return step?.verdict === 'error' ? { plugin, why: step.why ?? '' } : undefined;
}

type Refused = Extract<GateOutcome, { kind: 'refused' }>;

class Replayed {
  readonly #session: ChainSession;
  readonly #mail: StoredMail;
  readonly #refused: Record<string, string> = {};

  constructor(chain: Chain, mail: StoredMail) {
    const { session } = mail.facts;
    if (!session) throw new Error(`'${mail.id}' is no recording: it has no session`);
    this.#session = chain.openSession(session);
    this.#mail = mail;
  }

  async judge(store: KeptMailStore): Promise<Judged> {
    try {
      return await this.#run(store);
    } finally {
      this.#session.end();
    }
  }

  async #run(store: KeptMailStore): Promise<Judged> {
    const { facts, id } = this.#mail;
    const session = this.#session;
    const connected = await session.connect();
    if (connected.kind === 'refused') return this.#refusal(connected);
    const greeted = await session.helo(facts.helo ?? '');
    if (greeted.kind === 'refused') return this.#refusal(greeted);
    if (facts.session && facts.identity) session.update(facts.session, facts.identity);
    const empty = { ...facts.envelope, sender: facts.sender, recipients: [] as readonly Recipient[] };
    const begun = await session.mail(id, empty);
    if (begun.kind === 'refused') return this.#refusal(begun);
    const accepted: Recipient[] = [];
    let last: Refused | undefined;
    for (const to of [...facts.recipients, ...(facts.refused ?? [])]) {
      const outcome = await session.rcpt({ ...empty, recipients: [...accepted] }, to);
      if (outcome.kind === 'ok' && outcome.settled) accepted.push(to);
      else {
        last = outcome.kind === 'refused' ? outcome : noRelay;
        const failure = failureOf(session.steps(), last.plugin);
        if (failure) return { failed: failure };
        this.#refused[to.address.text] = `${last.plugin}: ${last.why}`;
      }
    }
    if (accepted.length === 0) return this.#refusal(last ?? noRelay);
    const message = await readMessage(store.form(this.#mail));
    const outcome = await session.message({ ...empty, recipients: accepted }, message);
    if (outcome.kind === 'refused') return this.#refusal(outcome);
    const { plugin = '', why = '' } = outcome;
    return { decision: decisionOf(outcome), plugin, why, refused: this.#refused };
  }

  #refusal(outcome: Refused): Judged {
    const failure = failureOf(this.#session.steps(), outcome.plugin);
    if (failure) return { failed: failure };
    const { plugin, why } = outcome;
    return { decision: outcome.reply.code >= 500 ? 'reject' : 'defer', plugin, why, refused: this.#refused };
  }
}

const noRelay: Refused = {
  kind: 'refused',
  reply: { code: 550, enhanced: '5.7.1', text: 'Relaying denied' },
  plugin: 'postern',
  why: 'No plugin accepted the recipient',
};

function endThen(mail: StoredMail): End {
  const details = new Map(mail.trace?.recipients.map(each => [each.address, each.detail ?? '']));
  const refused = Object.fromEntries(
    (mail.facts.refused ?? []).map(({ address }) => [address.text, details.get(address.text) ?? '']),
  );
  return { decision: mail.reason as Decision, plugin: mail.plugin, why: mail.why, refused };
}

/** Of a message that nobody gets, who was refused before does not matter. */
const sameEnd = (a: End, b: End): boolean =>
  a.decision === b.decision &&
  (a.decision === 'reject' ||
    a.decision === 'defer' ||
    Object.keys(a.refused).sort().join('\n') === Object.keys(b.refused).sort().join('\n'));

export interface ReplayParts {
  readonly store: KeptMailStore;
  /** Of the configuration that is tried. */
  readonly chain: Chain;
  /** Of the configuration that runs; asked only about what would flip. */
  readonly running: Chain;
  /** Names of entries that judge by history, in either. */
  readonly history: ReadonlySet<string>;
  readonly from: number;
  readonly to: number;
  readonly onProgress?: (done: number) => void;
}

/** Messages at once: engines answer slowly, and are asked by others too. */
const concurrency = 4;
const pageSize = 100;

export async function replayRecordings(parts: ReplayParts): Promise<ReplayReport> {
  const { store, chain, running, history, from, to } = parts;
  const flips: Flip[] = [];
  const failed: { readonly id: string; readonly plugin: string; readonly why: string }[] = [];
  let messages = 0;
  let same = 0;
  let byHistory = 0;
  let lost = 0;

  async function one(mail: StoredMail): Promise<void> {
    messages++;
    parts.onProgress?.(messages);
    if (history.has(mail.plugin)) {
      byHistory++;
      return;
    }
    let now: Judged;
    try {
      now = await new Replayed(chain, mail).judge(store);
    } catch (error) {
      // Retention removed it meanwhile, or a crash before it was on disk.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !/ends at/.test(String(error))) throw error;
      lost++;
      return;
    }
    if ('failed' in now) {
      failed.push({ id: mail.id, ...now.failed });
      return;
    }
    const was = endThen(mail);
    if (sameEnd(was, now)) {
      same++;
      return;
    }
    const today = await new Replayed(running, mail).judge(store);
    flips.push({
      id: mail.id,
      receivedAt: mail.receivedAt,
      sender: mail.facts.sender?.text ?? '',
      recipients: mail.facts.recipients.map(({ address }) => address.text),
      ...(mail.subject === undefined ? {} : { subject: mail.subject }),
      was,
      now,
      byConfiguration: 'failed' in today || !sameEnd(today, now),
    });
  }

  for (let beyond: { readonly receivedAt: number; readonly id: string } | undefined; ; ) {
    const page = await store.search({ from, to, order: 'oldest', limit: pageSize, ...(beyond ? { beyond } : {}) });
    const waiting = [...page];
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next; next = waiting.shift()) await one(next);
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    const last = page.at(-1);
    if (!last) break;
    beyond = { receivedAt: last.receivedAt, id: last.id };
  }
  flips.sort((a, b) => a.receivedAt - b.receivedAt);
  return { messages, same, flips, failed, byHistory, lost };
}
