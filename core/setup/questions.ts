// Questions on a terminal, each with its default; whoever gave all flags, or says --yes, is asked nothing.
import { createInterface, type Interface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { CliContext } from '../cli/context.ts';

export interface Questions {
  /** `check` says what is wrong with an answer; then it is asked again. */
  ask(question: string, fallback: string, check?: (answer: string) => string | undefined): Promise<string>;
  confirm(question: string, fallback: boolean): Promise<boolean>;
  /** What is typed is not shown, and kept as it is. '' = what is there already (`kept`) stays. */
  secret(question: string, kept: boolean): Promise<string>;
  close(): void;
}

/** Takes every default. `missing` is called where there is none. */
export const silentQuestions: Questions = {
  ask: async (_question, fallback) => fallback,
  confirm: async (_question, fallback) => fallback,
  secret: async () => '',
  close: () => undefined,
};

export function terminalQuestions(context: CliContext): Questions {
  const { stdin, stdout } = context;
  let hidden = false;
  const screen = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (!hidden) stdout.write(chunk);
      done();
    },
  });
  Object.defineProperty(screen, 'columns', { get: () => (stdout as { columns?: number }).columns });
  const lines: Interface = createInterface({
    input: stdin,
    output: screen,
    // A terminal that it does not rule would show what is typed.
    terminal: 'setRawMode' in stdin,
    // A key shall not bring a secret back.
    historySize: 0,
  });
  let over = false;
  const ended = new Promise<never>((_resolve, reject) => {
    lines.once('close', () => {
      over = true;
      reject(new Error('No answer; nothing was written'));
    });
  });
  ended.catch(() => undefined);
  const line = async (prompt: string): Promise<string> => {
    if (over) throw new Error('No answer; nothing was written');
    return Promise.race([lines.question(prompt), ended]);
  };
  const answer = async (prompt: string): Promise<string> => (await line(prompt)).trim();
  return {
    async ask(question, fallback, check) {
      for (;;) {
        const given = (await answer(`${question}${fallback === '' ? '' : ` [${fallback}]`}: `)) || fallback;
        const wrong = given === '' ? 'An answer is needed' : check?.(given);
        if (wrong === undefined) return given;
        stdout.write(`  ${wrong}\n`);
      }
    },
    async confirm(question, fallback) {
      for (;;) {
        const given = (await answer(`${question} [${fallback ? 'Y/n' : 'y/N'}]: `)).toLowerCase();
        if (given === '') return fallback;
        if (['y', 'yes'].includes(given)) return true;
        if (['n', 'no'].includes(given)) return false;
      }
    },
    async secret(question, kept) {
      for (;;) {
        const given = line(`${question}${kept ? ' [unchanged]' : ''}: `);
        hidden = true;
        try {
          const text = await given;
          if (text !== '' || kept) return text;
        } finally {
          hidden = false;
          // The line end that was typed is hidden as well.
          stdout.write('\n');
        }
        stdout.write('  An answer is needed\n');
      }
    },
    close: () => lines.close(),
  };
}
