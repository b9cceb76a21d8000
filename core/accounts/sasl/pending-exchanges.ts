// Exchanges whose last message is there and that a chain has yet to decide on. A plugin, which may run in another process,
// is told a number that stands for the exchange and asks by it whether the client proved who it is; proofs and tokens stay
// here.
import { randomUUID } from 'node:crypto';
import type { AuthResult } from '../directory.ts';

export interface PendingExchange {
  /** Not to be guessed, and good for nothing once the exchange is done. */
  readonly id: string;
  /** What was found; undefined where nobody asked, or nothing is known yet. */
  result(): AuthResult | undefined;
  done(): void;
}

export interface PendingExchanges {
  /** `judge` is called when first asked for, and once only: what it counts is counted once. */
  add(judge: () => Promise<AuthResult>): PendingExchange;
  /** `unavailable` where there is no such exchange. Never rejects. */
  judge(id: string): Promise<AuthResult>;
}

export function createPendingExchanges(): PendingExchanges {
  const pending = new Map<string, () => Promise<AuthResult>>();
  return {
    add(judge) {
      const id = randomUUID();
      let asked: Promise<AuthResult> | undefined;
      let result: AuthResult | undefined;
      const run = async (): Promise<AuthResult> => {
        try {
          return await judge();
        } catch (error) {
          return { kind: 'unavailable', why: error instanceof Error ? error.message : String(error) };
        }
      };
      pending.set(id, () => {
        asked ??= run().then(found => {
          result = found;
          return found;
        });
        return asked;
      });
      return {
        id,
        result: () => result,
        done: () => void pending.delete(id),
      };
    },
    judge: async id => (await pending.get(id)?.()) ?? { kind: 'unavailable', why: 'The exchange is over' },
  };
}
