// Carries out what a run decided. Everything that can be known to fail is asked first (`prepare`), so that a script whose
// third action cannot work leaves the message in the inbox and not half sorted. Whatever happens, the message is stored
// somewhere or the outcome is `tempfail`: never lost (RFC 5228 §2.10.6).

import type { Message } from '../mail/message.ts';
import type { ActionDefinition, Execution, SieveHost, SieveResult } from './contract.ts';
import type { Diagnostic } from './diagnostic.ts';
import type { OutgoingMail, SieveEnvelope } from './ports.ts';
import { HostError } from './ports.ts';
import type { Entry } from './result.ts';
import type { SieveSettings } from './settings.ts';
import { setting } from './settings.ts';

export interface Outcome {
  readonly entry: Entry;
  /** `skipped`: not needed (a vacation that the sender has had), or not reached after a failure. */
  readonly state: 'done' | 'skipped' | 'failed';
  readonly detail?: string;
}

export interface ExecutionResult {
  readonly status: 'ok' | 'failure' | 'tempfail';
  readonly outcomes: readonly Outcome[];
  readonly diagnostics: readonly Diagnostic[];
  /** The message was stored in the inbox although the script did not want that: something failed. */
  readonly rescued: boolean;
  /** Refused in the session (RFC 5429 §2.1), with the text for the client. */
  readonly refused?: string;
}

class ActionContext implements Execution {
  readonly host: SieveHost;
  readonly result: SieveResult;
  readonly envelope: SieveEnvelope;
  readonly diagnostics: Diagnostic[] = [];
  /** Texts by which the entry being carried out explains itself. */
  detail: string | undefined;
  skipped = false;
  refused: string | undefined;
  readonly #state = new Map<unknown, unknown>();

  constructor(result: SieveResult, host: SieveHost) {
    this.result = result;
    this.host = host;
    const { from, to, originalTo, ...rest } = result.envelope;
    const original = originalTo === undefined ? {} : { originalTo: bare(originalTo) };
    this.envelope = { ...rest, from: bare(from), to: bare(to), ...original };
  }

  setting<K extends keyof SieveSettings>(key: K): SieveSettings[K] {
    return setting(this.host.settings, key);
  }

  /** The message as it came: what reports are about (RFC 5293 §7). */
  get original(): Message {
    return this.result.original;
  }

  state<T>(key: unknown, make: () => T): T {
    if (!this.#state.has(key)) this.#state.set(key, make());
    return this.#state.get(key) as T;
  }

  skip(detail: string): void {
    this.skipped = true;
    this.detail = detail;
  }

  note(severity: Diagnostic['severity'], entry: Entry, message: string): void {
    const script = entry.script === '' ? {} : { script: entry.script };
    this.diagnostics.push({ severity, line: Math.max(entry.line, 1), column: 1, message, ...script });
  }

  send(mail: OutgoingMail): Promise<void> {
    return this.host.outgoing.send(mail);
  }
}

export async function execute(result: SieveResult, host: SieveHost): Promise<ExecutionResult> {
  return new Executor(result, host).run();
}

class Executor {
  readonly #result: SieveResult;
  readonly #execution: ActionContext;
  readonly #outcomes: Outcome[] = [];
  #failure: unknown;

  constructor(result: SieveResult, host: SieveHost) {
    this.#result = result;
    this.#execution = new ActionContext(result, host);
  }

  async run(): Promise<ExecutionResult> {
    const entries = this.#result.actions;
    const blocked = await this.#firstUnprepared(entries);
    if (blocked === undefined) await this.#all(entries);
    else for (const entry of entries) this.#outcomes.push({ entry, state: entry === blocked ? 'failed' : 'skipped' });
    if (this.#failure === undefined) await this.#remember();
    const rescued = this.#failure !== undefined && !this.#isStored() ? await this.#rescue() : false;
    return this.#report(rescued);
  }

  // A memory that cannot be written costs a second reply at worst: no reason to fail.
  async #remember(): Promise<void> {
    for (const work of this.#result.status === 'ok' ? this.#result.afterwards : [])
      try {
        await work(this.#execution);
      } catch (error) {
        const message = `What was seen could not be remembered: ${sentence(error)}`;
        this.#execution.diagnostics.push({ severity: 'warning', line: 1, column: 1, message });
      }
  }

  #definition(entry: Entry): ActionDefinition {
    const definition = this.#result.definitions.get(entry.action);
    if (!definition) throw new HostError('permanent', `Unknown action '${entry.action}'`);
    return definition;
  }

  async #firstUnprepared(entries: readonly Entry[]): Promise<Entry | undefined> {
    for (const entry of entries)
      try {
        await this.#definition(entry).prepare?.(entry, this.#execution);
      } catch (error) {
        this.#fail(entry, error);
        return entry;
      }
    return undefined;
  }

  async #all(entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      if (this.#failure !== undefined) {
        this.#outcomes.push({ entry, state: 'skipped', detail: 'an earlier action failed' });
        continue;
      }
      this.#execution.detail = undefined;
      this.#execution.skipped = false;
      try {
        await this.#definition(entry).execute(entry, this.#execution);
        const detail = this.#execution.detail;
        const state = this.#execution.skipped ? 'skipped' : 'done';
        this.#outcomes.push({ entry, state, ...(detail === undefined ? {} : { detail }) });
      } catch (error) {
        this.#fail(entry, error);
        this.#outcomes.push({ entry, state: 'failed', detail: sentence(error) });
      }
    }
  }

  #fail(entry: Entry, error: unknown): void {
    this.#failure = error ?? new Error('Unknown failure');
    this.#execution.note('error', entry, `Action '${entry.action}' failed: ${sentence(error)}`);
  }

  /** A copy of the message lies in the default mailbox already. */
  #isStored(): boolean {
    return this.#outcomes.some(
      ({ entry, state }) => state === 'done' && (entry.action === 'keep' || entry.action === 'fileinto'),
    );
  }

  async #rescue(): Promise<boolean> {
    const mailbox = this.#execution.setting('defaultMailbox');
    const message = this.#result.original.rope;
    try {
      await this.#execution.host.mailboxes.store({ mailbox, flags: [], create: true, message });
      return true;
    } catch (error) {
      this.#failure = new HostError('temporary', sentence(error), { cause: error });
      this.#execution.diagnostics.push({
        severity: 'error',
        line: 1,
        column: 1,
        message: `Message could not be stored in '${mailbox}' either: ${sentence(error)}`,
      });
      return false;
    }
  }

  #report(rescued: boolean): ExecutionResult {
    const safe = rescued || this.#isStored();
    const permanent = this.#failure instanceof HostError && this.#failure.kind === 'permanent';
    const status = this.#failure === undefined ? 'ok' : safe || permanent ? 'failure' : 'tempfail';
    const { refused } = this.#execution;
    return {
      status: status === 'failure' && !safe ? 'tempfail' : status,
      outcomes: this.#outcomes,
      diagnostics: this.#execution.diagnostics,
      rescued,
      ...(refused === undefined ? {} : { refused }),
    };
  }
}

const bare = (address: string): string => /^<(.*)>$/.exec(address.trim())?.[1] ?? address;

const sentence = (error: unknown): string => (error instanceof Error ? error.message : String(error));
