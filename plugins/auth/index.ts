// Who is it? Checks SMTP credentials against the accounts: passwords, and proofs of mechanisms that show none. Too many failures from one network or for one account close
// the door for a while before the password is looked at, in the words of a temporary failure: neither a guesser nor an
// owner with a wrong password on three devices shall be told more. The accounts have a limit of their own that counts
// over all protocols; these are for SMTP alone, where most guessing happens. What it found out goes into the message as
// Authentication-Results, and what others claim to have found out in our name comes out of it.
import { RateLimiterMemory } from 'rate-limiter-flexible';
import {
  type Authenticated,
  accept,
  type Credentials,
  claimedAuthResults,
  defer,
  definePlugin,
  duration,
  type Edit,
  formatAuthResults,
  type Greeted,
  type Hooks,
  type Judgement,
  type MessageAnswer,
  networkKey,
  pass,
  type Reply,
  type SaslProof,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { ownResultFields } from './results.ts';

const options = z.strictObject({
  failuresPerAddress: z
    .number()
    .int()
    .nonnegative()
    .default(20)
    .describe('Failed logins from one IPv4 address or IPv6 /64 network within `window`; 0 = no limit.'),
  failuresPerAccount: z
    .number()
    .int()
    .nonnegative()
    .default(50)
    .describe(
      'Failed logins for one account within `window`, whatever their origin; 0 = no limit. Networks from which the account logged in before are not locked out by others.',
    ),
  window: duration().prefault('15m').describe('How long a failure counts.'),
  authenticationResults: z
    .boolean()
    .default(true)
    .describe(
      'Add Authentication-Results (RFC 8601) to mail of users who logged in, and remove such fields in our name that come from outside.',
    ),
  passwordsOnly: z
    .boolean()
    .default(false)
    .describe(
      'Offer PLAIN and LOGIN alone, without SCRAM-SHA-256 and bearer tokens. For accounts that came with password hashes of another server: SCRAM knows them from their first login with a password on.',
    ),
});

// RFC 4954 §6
const unavailable: Reply<4> = { code: 454, enhanced: '4.7.0', text: 'Temporary authentication failure' };
const tooMany: Reply<4> = { code: 454, enhanced: '4.7.0', text: 'Too many failed logins, please try again later' };

/** Networks that an account logged in from are remembered up to this number. */
const maxTrusted = 10_000;

/** Counts failures by key; a limit of 0 counts nothing. */
function createLimiter(points: number, windowMs: number) {
  const limiter = points > 0 ? new RateLimiterMemory({ points, duration: Math.ceil(windowMs / 1000) }) : undefined;
  return {
    async full(key: string): Promise<boolean> {
      const used = await limiter?.get(key);
      return used ? used.consumedPoints >= points : false;
    },
    /** False where that passes the limit. */
    async count(key: string): Promise<boolean> {
      try {
        await limiter?.consume(key);
        return true;
      } catch (over) {
        if (over instanceof Error) throw over;
        return false;
      }
    },
    async forget(key: string): Promise<void> {
      await limiter?.delete(key);
    },
  };
}

/** Pairs of account and network that logged in, the oldest dropped first. */
function createTrusted() {
  const pairs = new Set<string>();
  return {
    has: (pair: string): boolean => pairs.has(pair),
    add(pair: string): void {
      pairs.delete(pair);
      pairs.add(pair);
      if (pairs.size > maxTrusted)
        for (const oldest of pairs) {
          pairs.delete(oldest);
          break;
        }
    },
  };
}

/**
 * RFC 8601 §5: a field in our name from outside is removed. §2.7.4: `auth` is told of who logged in, by the envelope sender
 * and not by the login name, which is nobody's business.
 */
function results(at: WithMessage, hostname: string): MessageAnswer {
  const forged = claimedAuthResults(at.message.headers, hostname);
  const edits: Edit[] = forged.map(index => ({ kind: 'remove-header', name: 'Authentication-Results', index }));
  if (forged.length > 0) at.evidence({ forgedResults: forged.length });
  if (at.identity) {
    const { sender } = at.envelope;
    const properties: [string, string][] = sender ? [['smtp.mailfrom', sender.text]] : [];
    const value = formatAuthResults(hostname, [{ method: 'auth', result: 'pass', properties }]);
    at.set(ownResultFields, 1);
    edits.push({ kind: 'add-header', name: 'Authentication-Results', value, at: 'top' });
  }
  return edits.length > 0 ? { ...pass, edits } : pass;
}

export const auth = definePlugin({
  name: 'auth',
  doc: 'Checks SMTP AUTH against the accounts of this gateway, with limits against guessing.',
  options,
  writes: [ownResultFields],
  setup(settings, host) {
    const byAddress = createLimiter(settings.failuresPerAddress, settings.window);
    const byAccount = createLimiter(settings.failuresPerAccount, settings.window);
    const trusted = createTrusted();

    /** `judge` is asked only where no limit stands against it. */
    async function decide(
      at: Greeted,
      { username, mechanism }: Credentials | SaslProof,
      judge: () => Promise<Judgement>,
    ): Promise<Authenticated> {
      const network = networkKey(at.session.remote.address, 32, 64);
      const account = username.toLowerCase().slice(0, 320);
      const pair = `${account} ${network}`;
      const ofNetwork = defer(tooMany, `Too many failed logins from ${network}`);
      const ofAccount = defer(tooMany, `Too many failed logins for '${account}'`);
      // A token may name its account by itself: before it is read, there is only the network to count by.
      const named = account !== '';
      async function limit() {
        if (await byAddress.full(network)) return ofNetwork;
        return named && !trusted.has(pair) && (await byAccount.full(account)) ? ofAccount : undefined;
      }
      const before = await limit();
      if (before) return before;
      const result = await judge();
      if (result.kind === 'unavailable') return defer(unavailable, `Accounts: ${result.why}`);
      // Logins side by side: those that are decided once others have used up the limit learn nothing either.
      if (result.kind === 'ok') {
        const meanwhile = await limit();
        if (meanwhile) return meanwhile;
        if (named) trusted.add(pair);
        if (named) await byAccount.forget(account);
        return { ...accept, identity: { name: result.name, mechanism } };
      }
      if (!(await byAddress.count(network))) return ofNetwork;
      if (named && !(await byAccount.count(account)) && !trusted.has(pair)) return ofAccount;
      // Another entry may know the account; when none does, the client hears 535.
      at.evidence({ account, refused: result.why });
      return pass;
    }

    const bySasl: Pick<Hooks, 'sasl'> = {
      sasl: (at, offered) => decide(at, offered, () => host.mailboxes.judge(offered.exchange)),
    };
    return {
      auth: (at, offered) => decide(at, offered, () => host.mailboxes.authenticate(offered, at.session.remote.address)),
      ...(settings.passwordsOnly ? {} : bySasl),
      message: at => (settings.authenticationResults ? results(at, host.hostname) : pass),
    };
  },
});
