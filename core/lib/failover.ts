// Several hosts that do the same work, asked in the order they are written. One that failed is left out for a while and
// then tried again by the first caller who comes, and by no other meanwhile: what hangs shall cost one caller its time and
// not all. If all are left out, all are tried all the same.
import type { Clock } from './clock.ts';
import { raceSignal, startDeadline } from './deadline.ts';

export interface FailoverOptions {
  readonly clock: Clock;
  /** How long one host may take for one piece of work. */
  readonly attemptMs: number;
  /** How long a host that failed is left out. */
  readonly retryMs: number;
  /** A host stopped working, or (without a reason) works again. */
  onChange(host: string, why: string | undefined): void;
}

export interface Failover<Host> {
  /** The first answer of a host. Rejects when all failed, with what each said, or when `signal` aborts. */
  run<T>(signal: AbortSignal, attempt: (host: Host, signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Host → why it is left out; undefined while it works. */
  health(): ReadonlyMap<string, string | undefined>;
}

interface State<Host> {
  readonly name: string;
  readonly host: Host;
  down: { readonly why: string; readonly until: number } | undefined;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error)) || 'no reason';

export function createFailover<Host>(
  hosts: readonly Host[],
  nameOf: (host: Host) => string,
  options: FailoverOptions,
): Failover<Host> {
  const { clock } = options;
  const states: readonly State<Host>[] = hosts.map(host => ({ name: nameOf(host), host, down: undefined }));

  function order(): readonly State<Host>[] {
    const now = clock.monotonic();
    const usable = states.filter(state => !state.down || state.down.until <= now);
    const rest = states.filter(state => !usable.includes(state));
    return [...usable, ...rest];
  }

  function become(state: State<Host>, why: string | undefined): void {
    const changed = (state.down === undefined) !== (why === undefined);
    state.down = why === undefined ? undefined : { why, until: clock.monotonic() + options.retryMs };
    if (changed) options.onChange(state.name, why);
  }

  return {
    async run(signal, attempt) {
      const failures: string[] = [];
      let cause: unknown;
      for (const state of order()) {
        signal.throwIfAborted();
        if (state.down) state.down = { ...state.down, until: clock.monotonic() + options.retryMs };
        const deadline = startDeadline(clock, options.attemptMs, signal);
        try {
          // An attempt that does not heed its signal is left to itself.
          const answer = await raceSignal(attempt(state.host, deadline.signal), deadline.signal);
          become(state, undefined);
          return answer;
        } catch (error) {
          // The caller gave up: that says nothing about the host, but that it took long.
          if (signal.aborted) throw signal.reason;
          cause = error;
          failures.push(`${state.name}: ${messageOf(error)}`);
          become(state, messageOf(error));
        } finally {
          deadline.done();
        }
      }
      throw new Error(`No host answered: ${failures.join('; ')}`, { cause });
    },
    health: () => new Map(states.map(state => [state.name, state.down?.why])),
  };
}
