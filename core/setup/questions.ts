// Questions on a terminal, each with its default; whoever gave all flags, or says --yes, is asked nothing.
import { createInterface, type Interface } from 'node:readline/promises';
import type { CliContext } from '../cli/context.ts';

export interface Questions {
  /** `check` says what is wrong with an answer; then it is asked again. */
  ask(question: string, fallback: string, check?: (answer: string) => string | undefined): Promise<string>;
  confirm(question: string, fallback: boolean): Promise<boolean>;
  close(): void;
}

/** Takes every default. `missing` is called where there is none. */
export const silentQuestions: Questions = {
  ask: async (_question, fallback) => fallback,
  confirm: async (_question, fallback) => fallback,
  close: () => undefined,
};

export function terminalQuestions(context: CliContext): Questions {
  const lines: Interface = createInterface({ input: context.stdin, output: context.stdout });
  let over = false;
  const ended = new Promise<never>((_resolve, reject) => {
    lines.once('close', () => {
      over = true;
      reject(new Error('No answer; nothing was written'));
    });
  });
  ended.catch(() => undefined);
  const answer = async (prompt: string): Promise<string> => {
    if (over) throw new Error('No answer; nothing was written');
    return (await Promise.race([lines.question(prompt), ended])).trim();
  };
  return {
    async ask(question, fallback, check) {
      for (;;) {
        const given = (await answer(`${question}${fallback === '' ? '' : ` [${fallback}]`}: `)) || fallback;
        const wrong = given === '' ? 'An answer is needed' : check?.(given);
        if (wrong === undefined) return given;
        context.stdout.write(`  ${wrong}\n`);
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
    close: () => lines.close(),
  };
}
