// Viruses, by clamd. The message is streamed to the first host that works; only a clear answer counts, everything else
// (no answer, an empty one, an unknown one, a broken connection) asks the next host and, when none is left, is the
// entry's `onError`. Nobody is notified: senders of worms are forged.
import {
  connectEndpoint,
  definePlugin,
  type Edit,
  type Endpoint,
  engineFailover,
  formatEndpoint,
  type Host,
  type MessageAnswer,
  pass,
  type Reply,
  startDeadline,
  type WithMessage,
} from '../../core/plugin/index.ts';
import { type ClamavOptions, options } from './options.ts';
import { actionFor, strictest } from './policy.ts';
import { type VirusFinding, virusFinding } from './results.ts';
import { type EngineVersion, readVersion, scan } from './scanner.ts';

const hourMs = 3_600_000;
const dayMs = 86_400_000;
const malware: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Message contains malicious content' };
const tooLarge: Reply<5> = { code: 552, enhanced: '5.3.4', text: 'Message is too large to be scanned' };

type Infected = Extract<VirusFinding, { kind: 'infected' }>;

function headerEdits(at: WithMessage, name: string, value: string): readonly Edit[] {
  if (name === '') return [];
  const forged: readonly Edit[] = at.message.headers.has(name) ? [{ kind: 'remove-header', name }] : [];
  return [...forged, { kind: 'add-header', name, value }];
}

function decide(at: WithMessage, found: Infected, settings: ClamavOptions): MessageAnswer {
  const names = found.signatures.join(', ');
  const why = `Found ${names}`;
  const edits = headerEdits(at, settings.header, `${found.action === 'ignore' ? 'Clean' : 'Infected'} (${names})`);
  switch (found.action) {
    case 'reject':
      return { kind: 'reject', reply: malware, why };
    case 'discard':
      return { kind: 'discard', why };
    case 'quarantine':
      return { kind: 'quarantine', why, reason: 'virus', edits };
    default:
      return { ...pass, edits };
  }
}

function unscanned(at: WithMessage, settings: ClamavOptions): MessageAnswer {
  const why = `Larger than ${settings.maxSize} bytes`;
  at.set(virusFinding, { kind: 'not-scanned', why });
  at.evidence({ notScanned: why });
  if (settings.oversized === 'reject') return { kind: 'reject', reply: tooLarge, why };
  const edits = headerEdits(at, settings.header, 'Not scanned (too large)');
  if (settings.oversized === 'quarantine') return { kind: 'quarantine', why: `Not scanned: ${why}`, edits };
  // Nobody outside may say for us that it is clean.
  const forged = edits.filter(({ kind }) => kind === 'remove-header');
  return { ...pass, edits: settings.oversized === 'tag' ? edits : forged };
}

/** One line for `status`: version, number and age of the signatures. */
function describeVersion(version: EngineVersion, now: number, maxAgeMs: number): string {
  const { engine, signatures, madeAt } = version;
  if (signatures === undefined || madeAt === undefined) return `${engine}, signatures of its own`;
  const ageMs = now - madeAt;
  return `${engine}, signatures ${signatures}, ${(ageMs / dayMs).toFixed(1)} days old${ageMs > maxAgeMs ? ': too old' : ''}`;
}

function createEngine(settings: ClamavOptions, host: Host) {
  const failover = engineFailover(settings, host);
  const caFile = settings.caFile === undefined ? {} : { caFile: host.resolvePath(settings.caFile) };
  const connect = (endpoint: Endpoint, signal: AbortSignal) =>
    connectEndpoint(endpoint, { signal, clock: host.clock, connectMs: settings.connectTimeout, ...caFile });

  async function versionOf(endpoint: Endpoint, parent: AbortSignal): Promise<EngineVersion> {
    const deadline = startDeadline(host.clock, settings.connectTimeout, parent);
    try {
      return await readVersion(await connect(endpoint, deadline.signal), deadline.signal);
    } finally {
      deadline.done();
    }
  }

  return {
    scan: (at: WithMessage) =>
      failover.run(at.signal, async (endpoint, signal) => {
        const socket = await connect(endpoint, signal);
        return { ...(await scan(socket, at.message.open(), signal)), host: formatEndpoint(endpoint) };
      }),
    /** Endpoint → version, or why there is none. */
    versions: (signal: AbortSignal) =>
      Promise.all(
        settings.hosts.map(async endpoint => {
          const answer = await versionOf(endpoint, signal).catch((error: Error) => error);
          return [formatEndpoint(endpoint), answer] as const;
        }),
      ),
  };
}

type Engine = ReturnType<typeof createEngine>;

/** Old signatures find old viruses: looked at at the start and then hourly, until the signal aborts. */
function watchAge(engine: Engine, settings: ClamavOptions, host: Host, closed: AbortSignal): void {
  const cancel = host.clock.after(hourMs, () => {
    closed.removeEventListener('abort', cancel);
    watchAge(engine, settings, host, closed);
  });
  closed.addEventListener('abort', cancel, { once: true });
  void engine.versions(closed).then(versions => {
    if (closed.aborted) return;
    for (const [name, version] of versions) {
      if (version instanceof Error)
        host.log.warn({ host: name, why: version.message }, 'Virus scanner does not answer');
      else if (host.clock.now() - (version.madeAt ?? host.clock.now()) > settings.maxSignatureAge)
        host.log.warn({ host: name, ...version }, 'Virus signatures are too old');
    }
  });
}

export const clamav = definePlugin({
  name: 'clamav',
  doc: 'Scans messages for viruses with clamd, on several hosts with failover.',
  options,
  writes: [virusFinding],
  setup(settings, host) {
    const engine = createEngine(settings, host);
    const closed = new AbortController();
    watchAge(engine, settings, host, closed.signal);
    return {
      async message(at) {
        // clamd knows no empty stream, and nothing has no virus.
        if (at.message.size === 0) return pass;
        if (at.message.size > settings.maxSize) return unscanned(at, settings);
        const { host: by, ...answer } = await engine.scan(at);
        if (answer.kind === 'clean') {
          at.set(virusFinding, answer);
          at.evidence({ found: 'nothing', host: by });
          return { ...pass, edits: headerEdits(at, settings.header, 'Clean') };
        }
        const action = strictest(answer.signatures.map(name => actionFor(name, settings)));
        const found: Infected = { ...answer, action };
        at.set(virusFinding, found);
        at.evidence({ found: found.signatures, action, host: by });
        return decide(at, found, settings);
      },
      async status() {
        const versions = await engine.versions(closed.signal);
        const lineOf = (version: EngineVersion | Error): string =>
          version instanceof Error
            ? `does not answer: ${version.message}`
            : describeVersion(version, host.clock.now(), settings.maxSignatureAge);
        return Object.fromEntries(versions.map(([name, version]) => [name, lineOf(version)]));
      },
      async close() {
        closed.abort();
      },
    };
  },
});
