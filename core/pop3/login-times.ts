// LOGIN-DELAY (RFC 2449 §6.5): how long a user must wait between two logins. Bounded: the oldest are forgotten.

import type { Clock } from '../lib/clock.ts';
import { keepNewest } from '../lib/keep-newest.ts';

const maxUsers = 50_000;

export interface LoginTimes {
  /** False where the last login was too short ago; otherwise this one counts. */
  admit(user: string): boolean;
}

export function loginTimes(clock: Clock, delaySeconds: number): LoginTimes {
  const last = new Map<string, number>();
  return {
    admit(user) {
      if (delaySeconds <= 0) return true;
      const now = clock.monotonic();
      const before = last.get(user);
      if (before !== undefined && now - before < delaySeconds * 1000) return false;
      keepNewest(last, user, now, maxUsers);
      return true;
    },
  };
}
