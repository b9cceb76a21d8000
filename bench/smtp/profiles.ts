export interface Profile {
  readonly what: string;
  readonly messages: number;
  readonly sessions: number;
  readonly bytes: number;
  /** Sessions are reused; otherwise each message has a connection of its own. */
  readonly reuse?: boolean;
  /** Messages sent before, for pools, caches and compilers. */
  readonly warmUp?: number;
}

export const defaultWarmUp = 200;

const tenK = 10_000;
const small = { messages: 5000, bytes: tenK };

export const profiles: Readonly<Record<string, Profile>> = {
  p20: { ...small, sessions: 20, what: '20 sessions, a new connection per message, 10 kB' },
  p20d: { ...small, sessions: 20, reuse: true, what: '20 sessions, reused, 10 kB' },
  p20warm: { ...small, sessions: 20, warmUp: 10_000, what: 'as p20, after 10,000 messages on 10 sessions' },
  p20dwarm: {
    ...small,
    sessions: 20,
    reuse: true,
    warmUp: 10_000,
    what: 'as p20d, after 10,000 messages on 10 sessions',
  },
  p100: { ...small, sessions: 100, what: '100 sessions, a new connection per message, 10 kB' },
  p1: { messages: 300, bytes: tenK, sessions: 1, what: 'one session, a new connection per message, 10 kB' },
  p1warm: { messages: 300, bytes: tenK, sessions: 1, warmUp: 5000, what: 'as p1, after 5000 messages on 10 sessions' },
  big: { messages: 200, bytes: 1_000_000, sessions: 10, what: '10 sessions, 1 MB' },
  smoke: { messages: 50, bytes: 2000, sessions: 5, what: 'does it run at all' },
};

export function profileNamed(name: string): Profile {
  const found = profiles[name];
  if (!found) throw new Error(`No profile '${name}': ${Object.keys(profiles).join(', ')}`);
  return found;
}
