// What every plugin must do, whatever it does otherwise. One suite for all: `compliance.test.ts` runs it over the table of
// built-in plugins, `postern plugin check` over a foreign one. Free of any test runner: a check throws or does not.
import assert from 'node:assert/strict';
import { documentKeys } from '../config/render-docs.ts';
import type { HookName, Plugin, PluginInstance } from '../plugin/contract.ts';
import { type DrivenPlugin, type PluginSetup, plugin } from './plugin.ts';
import { testHost } from './plugin-host.ts';

export interface Sample {
  /** Options under which the plugin asks its backends; default: its defaults. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Zones, accounts and folder that these options need. */
  readonly setup?: PluginSetup;
  /**
   * The engine that the options name is not running: hooks may fail, which leaves the verdict to the entry's `onError`,
   * but none may accept. What the plugin does with its engine is for its own tests.
   */
  readonly engine?: 'absent';
}

export interface Check {
  readonly name: string;
  run(): Promise<void>;
}

const accounts = { local: ['example.org'], relay: ['inner.example'], users: { 'bob@example.org': 'right' } };
const messages = [
  'From: a@b.example\nTo: bob@example.org\nSubject: x\nDate: Sat, 21 Nov 2026 06:00:00 +0000\nMessage-ID: <1@b.example>\n\nx\n',
  'no header at all',
  '\n',
  'Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: y\n\nz\n--b--\n',
  'Subject: \0\nSubject: \xff\n\n\0',
];
const recipients = ['bob@example.org', 'nobody@example.org', 'x@inner.example', 'x@elsewhere.example', 'postmaster'];

type Asked = { readonly stage: string; readonly kind: string; readonly why?: string; readonly backendFailed: boolean };

/** Goes through every stage with all that stages meet; tells what was answered and whether a backend failed on the way. */
async function driveAll(p: DrivenPlugin): Promise<readonly Asked[]> {
  const asked: Asked[] = [];
  const ask = async (stage: string, run: () => Promise<{ readonly kind: string; readonly why?: string }>) => {
    const before = p.host.failures();
    const { kind, why } = await run();
    asked.push({ stage, kind, ...(why === undefined ? {} : { why }), backendFailed: p.host.failures() > before });
  };
  for (const client of [
    { remote: '198.51.100.1' },
    { remote: '2001:db8::1', role: 'submission' as const },
    { role: 'lmtp' as const },
  ]) {
    await ask('connect', () => p.connect(client));
    await ask('helo', () => p.helo('client.example'));
    await ask('auth', () => p.auth('bob@example.org', 'wrong'));
    await ask('auth', () => p.auth('bob@example.org', 'right'));
    await ask('sasl', () => p.sasl('bob@example.org', false));
    await ask('sasl', () => p.sasl('bob@example.org', true));
    for (const sender of ['a@b.example', 'bob@example.org', null]) {
      await ask('mail', () => p.mail(sender, { declaredSize: 1000 }));
      for (const to of recipients) await ask(`rcpt ${to}`, () => p.rcpt(to));
      for (const message of messages) await ask('message', () => p.message(message));
    }
  }
  return asked;
}

/** The plugin with a look at the promise of each hook call. */
function watched(tested: Plugin<unknown>, onCall: (hook: HookName, answer: unknown) => void): Plugin<unknown> {
  return {
    ...tested,
    async setup(options, host) {
      const instance = await tested.setup(options, host);
      const entries = Object.entries(instance).map(([name, member]) => {
        if (name === 'close' || name === 'status' || typeof member !== 'function') return [name, member];
        const hook = (...args: readonly unknown[]): unknown => {
          const answer = (member as (...given: unknown[]) => unknown).apply(instance, [...args]);
          onCall(name as HookName, answer);
          return answer;
        };
        return [name, hook];
      });
      return Object.fromEntries(entries) as PluginInstance;
    },
  };
}

/**
 * Waits for `holds` by turns of the event loop, at most `limitMs`. A turn counts for a millisecond at most: that the machine
 * was busy with something else is no fault of the plugin.
 */
async function eventually(limitMs: number, holds: () => boolean): Promise<boolean> {
  let spentMs = 0;
  for (let last = performance.now(); !holds(); ) {
    if (spentMs > limitMs) return false;
    await new Promise(setImmediate);
    const now = performance.now();
    spentMs += Math.min(now - last, 1);
    last = now;
  }
  return true;
}

/** Open handles and timers, counted by kind. */
function openResources(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  // Immediates are the turns of `eventually`; files are those of other tests' bookkeeping.
  for (const kind of process.getActiveResourcesInfo())
    if (kind !== 'Immediate' && !kind.startsWith('FS')) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** Kinds of which more are open now. Fewer are no leak: what an earlier check left may have been about to close. */
const openedSince = (before: ReadonlyMap<string, number>): readonly string[] =>
  [...openResources()].filter(([kind, count]) => count > (before.get(kind) ?? 0)).map(([kind]) => kind);

export function compliance(tested: Plugin<unknown>, sample: Sample = {}): readonly Check[] {
  const options = sample.options ?? {};
  const setup: PluginSetup = { accounts, ...sample.setup };
  const driven = async (use: (p: DrivenPlugin) => Promise<void>, subject = tested): Promise<void> => {
    const p = await plugin(subject, options, setup);
    try {
      await use(p);
    } finally {
      await p.close();
    }
  };

  const assertLegal = (asked: readonly Asked[]): void => {
    for (const { stage, kind, why } of asked)
      if (sample.engine === 'absent') assert.notEqual(kind, 'accept', `${stage} accepted without its engine`);
      else assert.notEqual(kind, 'error', `${stage}: ${why}`);
  };

  return [
    {
      name: 'has a name, a sentence about itself, and one for each option',
      async run() {
        assert.match(tested.name, /^[a-z][a-z0-9-]*$/);
        assert.match(tested.doc, /^[A-Z].*\.$/s);
        for (const { key, doc } of documentKeys(tested.options))
          assert.match(doc, /\S/, `Option '${key}' has no sentence`);
      },
    },
    {
      name: 'has valid defaults, and refuses an option that it does not know',
      async run() {
        const bare = tested.options.safeParse({});
        if (!bare.success)
          for (const issue of bare.error.issues)
            assert.match(
              issue.message,
              /undefined/,
              `Default of '${issue.path.join('.')}' is invalid: ${issue.message}`,
            );
        const loaded = plugin(tested, { ...options, 'no-such-option': 1 }, setup);
        await assert.rejects(
          loaded.then(p => p.close()),
          /no-such-option/,
        );
      },
    },
    {
      name: 'answers with legal verdicts at every stage',
      run: () =>
        driven(async p => {
          assertLegal(await driveAll(p));
        }),
    },
    {
      name: 'accepts nothing that a backend failed to say, and refuses nothing for good because of it',
      run: () =>
        driven(async p => {
          p.host.setUnavailable('stopped');
          p.host.dnsServer?.setFault('servfail');
          for (const { stage, kind, backendFailed } of await driveAll(p))
            if (backendFailed) assert.ok(!['accept', 'reject', 'discard'].includes(kind), `${stage}: ${kind}`);
        }),
    },
    {
      name: 'ends its work within 100 ms when the client is gone',
      async run() {
        const pending = new Set<string>();
        const watch = watched(tested, (hook, answer) => {
          if (!(answer instanceof Promise)) return;
          pending.add(hook);
          const done = (): void => void pending.delete(hook);
          answer.then(done, done);
        });
        await driven(async p => {
          p.host.dnsServer?.setFault('timeout');
          const stages: readonly (() => Promise<unknown>)[] = [
            () => p.helo('client.example'),
            () => p.mail('a@b.example'),
            () => p.rcpt('bob@example.org'),
            () => p.message(messages[0] ?? ''),
          ];
          for (let upTo = 0; upTo <= stages.length; upTo++) {
            const calls = [p.connect({ remote: '198.51.100.1' })];
            const rest = stages.slice(0, upTo);
            for (const stage of rest) void Promise.resolve(stage()).catch(() => undefined);
            await new Promise(setImmediate);
            p.end();
            assert.ok(await eventually(100, () => pending.size === 0), `Still at work: ${[...pending].join(', ')}`);
            await Promise.allSettled(calls);
          }
        }, watch);
      },
    },
    {
      name: 'can be closed twice, leaves nothing open, and shares nothing with another instance',
      async run() {
        const host = await testHost(setup);
        try {
          const parsed = tested.options.parse(options);
          const before = openResources();
          const one = await tested.setup(parsed, host);
          const two = await plugin(tested, options, { ...setup, host });
          try {
            await one.close?.();
            await one.close?.();
            assertLegal(await driveAll(two));
          } finally {
            await two.close();
          }
          const closed = await eventually(2_000, () => openedSince(before).length === 0);
          assert.ok(closed, `Left open: ${openedSince(before).join(', ')}`);
        } finally {
          await host.close();
        }
      },
    },
  ];
}
