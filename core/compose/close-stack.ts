import type { Logger } from 'pino';

interface Closable {
  close(): Promise<unknown>;
}

/** What was opened, to be closed in reverse order; a part that fails to close does not keep the others open. */
export class CloseStack {
  readonly #parts: { readonly name: string; readonly part: Closable }[] = [];
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  add<Part extends Closable>(name: string, part: Part): Part {
    this.#parts.push({ name, part });
    return part;
  }

  async closeAll(): Promise<void> {
    for (let entry = this.#parts.pop(); entry; entry = this.#parts.pop()) {
      try {
        await entry.part.close();
      } catch (error) {
        this.#log.error({ err: error, part: entry.name }, 'Part did not close');
      }
    }
  }
}
