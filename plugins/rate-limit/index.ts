// How much may somebody send? Messages and recipients are counted per client address, network, sender, account and recipient,
// in windows of time. An account over its limit is what a stolen password looks like: the postmaster is told, and its mail
// can be held. Held accounts stay held over restarts, until an operator releases them.
import {
  cidrSet,
  definePlugin,
  type Gate,
  type Host,
  type InMail,
  networkKey,
  parseCidr,
  pass,
  type Recipient,
  raceSignal,
} from '../../core/plugin/index.ts';
import { sendAlert } from './alert.ts';
import { type Counters, createCounters } from './counters.ts';
import { type Limit, options, type RateLimitOptions } from './options.ts';
import { admin, holdKey, holdMs, type Over, overKey, releasedKey } from './records.ts';
import { exceededLimits } from './results.ts';

type What = 'messages' | 'recipients';
interface Rule {
  readonly limit: Limit;
  readonly what: What;
  readonly most: number;
  readonly counters: Counters;
}

const text = 'Too many messages, please try again later';
const units: readonly (readonly [string, number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
];
function spanText(ms: number): string {
  const [unit = 's', size = 1000] = units.find(([, each]) => ms % each === 0) ?? [];
  return `${Math.round(ms / size)}${unit}`;
}

/** Networks on one side, everything else that can be exempt on the other. */
function exemption(names: readonly string[]): (key: string, address: string) => boolean {
  const isNetwork = (name: string): boolean => {
    try {
      return parseCidr(name) !== undefined;
    } catch {
      return false;
    }
  };
  const networks = cidrSet(names.filter(isNetwork));
  const others = new Set(names.filter(name => !isNetwork(name)).map(name => name.toLowerCase()));
  return (key, address) => networks.has(address) || others.has(key) || others.has(key.slice(key.lastIndexOf('@') + 1));
}

const newsName = ({ limit, what }: Rule, key: string): string => `${limit.per} ${key} ${what} ${limit.window}`;

function openRules(settings: RateLimitOptions, host: Host): readonly Rule[] {
  return settings.limits.flatMap(limit =>
    (['messages', 'recipients'] as const).flatMap(what => {
      const most = limit[what];
      if (most === undefined) return [];
      const name = `${limit.per}/${what}/${spanText(limit.window)}`;
      const counters = createCounters({ name, windowMs: limit.window, maxKeys: settings.maxKeys, host });
      return [{ limit, what, most, counters }];
    }),
  );
}

function createLimits(settings: RateLimitOptions, host: Host) {
  const { memory, clock } = host;
  const rules = openRules(settings, host);
  const isExempt = exemption(settings.exempt);
  const holds = rules.some(({ limit }) => limit.action === 'hold');
  /** Limits that this process has told of, and until when it is quiet about them. */
  const toldUntil = new Map<string, number>();

  function keyOf({ limit }: Rule, at: InMail, to: Recipient | undefined): string | undefined {
    const { address } = at.session.remote;
    const ours = at.identity !== undefined || host.isRelayClient(address);
    switch (limit.per) {
      case 'address':
        return ours ? undefined : networkKey(address, 32, 64);
      case 'network':
        return ours ? undefined : networkKey(address, settings.ipv4Prefix, settings.ipv6Prefix);
      case 'sender':
        return at.envelope.sender?.text.toLowerCase();
      case 'account':
        return at.identity?.name.toLowerCase();
      case 'recipient':
        return to?.address.text.toLowerCase();
    }
  }

  /** An operator released it since this window began: what was counted before is forgotten. */
  async function wasReleased(rule: Rule, key: string, began: number): Promise<boolean> {
    const mark = await memory.get(releasedKey(rule.limit.per, key));
    if (mark === undefined || Number(mark) <= began) return false;
    await rule.counters.reset(key, Number(mark));
    toldUntil.delete(newsName(rule, key));
    return true;
  }

  /** True the first time in a window, and the first time after a release. */
  function isNews(name: string, leftMs: number): boolean {
    const now = clock.monotonic();
    if ((toldUntil.get(name) ?? 0) > now) return false;
    if (toldUntil.size > settings.maxKeys) toldUntil.clear();
    toldUntil.set(name, now + leftMs);
    return true;
  }

  async function remember(rule: Rule, key: string, over: Over, leftMs: number, at: InMail): Promise<void> {
    const { per, action } = rule.limit;
    const isHeld = action === 'hold';
    const news = newsName(rule, key);
    const isFirst = isNews(news, leftMs);
    try {
      if (isHeld && (await memory.get(holdKey(key))) === undefined)
        await memory.set(holdKey(key), JSON.stringify(over), holdMs);
      if (!isFirst) return;
      if (!isHeld) await memory.set(overKey(per, key), JSON.stringify(over), Math.max(1000, leftMs));
    } catch (error) {
      // It is still to be told.
      if (isFirst) toldUntil.delete(news);
      throw error;
    }
    host.log.warn({ event: 'rate-limit', per, key, over: over.what, action }, 'Rate limit exceeded');
    if (per !== 'account' || !settings.alert) return;
    const facts = { client: at.session.remote.address, sender: at.envelope.sender?.text ?? '<>' };
    await sendAlert({ account: key, what: over.what, isHeld, ...facts }, settings.alertTo, host);
  }

  async function count(rule: Rule, at: InMail, to: Recipient | undefined): Promise<Gate> {
    const key = keyOf(rule, at, to);
    if (key === undefined || isExempt(key, at.session.remote.address)) return pass;
    let counted = await rule.counters.add(key, 1);
    if (counted.used > rule.most && (await wasReleased(rule, key, counted.began)))
      counted = await rule.counters.add(key, 1);
    if (counted.used <= rule.most) return pass;
    const { per, window, action } = rule.limit;
    const what = `${counted.used} ${rule.what} in ${spanText(window)}, limit ${rule.most}`;
    const why = `${per} ${key}: ${what}`;
    const now = clock.now();
    await remember(rule, key, { since: now, what, until: now + counted.leftMs }, counted.leftMs, at);
    at.set(exceededLimits, [...(at.get(exceededLimits) ?? []), why]);
    at.evidence({ exceeded: why });
    if (action === 'hold') return pass;
    return action === 'reject'
      ? { kind: 'reject', reply: { code: 550, enhanced: '5.7.1', text: 'Too many messages' }, why }
      : { kind: 'defer', reply: { code: 450, enhanced: '4.7.1', text }, why };
  }

  /** All are counted, also behind one that refuses: which stands first makes no difference. */
  async function countAll(some: readonly Rule[], at: InMail, to?: Recipient): Promise<Gate> {
    const gates: Gate[] = [];
    for (const rule of some) gates.push(await count(rule, at, to));
    return gates.find(({ kind }) => kind === 'reject') ?? gates.find(({ kind }) => kind === 'defer') ?? pass;
  }

  const perMessage = rules.filter(({ what, limit }) => what === 'messages' && limit.per !== 'recipient');
  const perRecipient = rules.filter(rule => !perMessage.includes(rule));
  return {
    ...(perMessage.length > 0 ? { mail: (at: InMail) => raceSignal(countAll(perMessage, at), at.signal) } : {}),
    ...(perRecipient.length > 0
      ? { rcpt: (at: InMail, to: Recipient) => raceSignal(countAll(perRecipient, at, to), at.signal) }
      : {}),
    ...(holds
      ? {
          async message(at: InMail) {
            const account = at.identity?.name.toLowerCase();
            if (account === undefined) return pass;
            const held = await raceSignal(memory.get(holdKey(account)), at.signal);
            if (held === undefined) return pass;
            const { what } = JSON.parse(held) as Over;
            return { kind: 'quarantine', why: `Account ${account} is held: ${what}`, reason: 'policy' } as const;
          },
        }
      : {}),
    async status() {
      return { holds: (await memory.list('hold ', 1000)).length, over: (await memory.list('over ', 1000)).length };
    },
    async close() {
      await Promise.all(rules.map(({ counters }) => counters.close()));
    },
  };
}

export const rateLimit = definePlugin({
  name: 'rate-limit',
  history: true,
  doc: 'Limits messages and recipients per address, network, sender, account and recipient; holds the mail of accounts that send too much.',
  options,
  writes: [exceededLimits],
  admin,
  setup: createLimits,
});
