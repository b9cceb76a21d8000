// Variables of one script during a run. Names are case-insensitive (RFC 5229 §3); values and their number are bounded.
import type { Run } from './contract.ts';
import { ScriptError } from './errors.ts';

export class VariableScope {
  readonly #run: Run;
  readonly #values = new Map<string, string>();
  /** Names that this script shares with others, and where they are kept (RFC 6609 §3.4). */
  readonly #shared = new Map<string, Map<string, string>>();

  constructor(run: Run) {
    this.#run = run;
  }

  /** Unknown variables are empty. */
  get(name: string): string {
    const key = name.toLowerCase();
    return (this.#shared.get(key) ?? this.#values).get(key) ?? '';
  }

  has(name: string): boolean {
    const key = name.toLowerCase();
    return (this.#shared.get(key) ?? this.#values).has(key);
  }

  /** Set by this script, and not shared. */
  isOwn(name: string): boolean {
    return this.#values.has(name.toLowerCase());
  }

  /** Cut to the size limit (RFC 5229 §6); throws `ScriptError` beyond the number of variables. */
  set(name: string, value: string): void {
    this.setIn(this.#shared.get(name.toLowerCase()) ?? this.#values, name, value);
  }

  setIn(values: Map<string, string>, name: string, value: string): void {
    const key = name.toLowerCase();
    const limit = this.#run.setting('maxVariables');
    if (!values.has(key) && values.size >= limit)
      throw new ScriptError(`Script exceeded the policy limit of ${limit} variables`);
    values.set(key, cutUtf8(value, this.#run.setting('maxVariableBytes')));
  }

  /** From here on `name` lives in `values`. */
  share(name: string, values: Map<string, string>): void {
    this.#shared.set(name.toLowerCase(), values);
  }
}

/** At most `limit` bytes of UTF-8, no character cut in two. */
function cutUtf8(value: string, limit: number): string {
  if (value.length * 3 <= limit) return value;
  const bytes = Buffer.from(value);
  if (bytes.length <= limit) return value;
  let end = limit;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}
