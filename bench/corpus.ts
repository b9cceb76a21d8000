// The SpamAssassin corpus through a whole gateway with every filter on its real engine: verdicts, time per plugin, memory.
//   node build/bench/corpus.js [messages] [minutes]
// Needs clamd, spamd, rspamd and opendkim (Debian packages). Each message comes over SMTP with the client address of its last
// Received field (by XCLIENT) and is delivered to a Maildir. The DNS knows the clients and the senders' domains. Stops after the given minutes and says how far it came.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { allSteps, type TraceRecord } from '../core/mail/trace.ts';
import { startClamd } from '../test/harness/clamd.ts';
import { type CorpusMessage, corpusMessages } from '../test/harness/corpus.ts';
import { type DnsNode, startDnsServer, type Zone } from '../test/harness/dns-server.ts';
import { startTestGateway } from '../test/harness/gateway.ts';
import { startOpenDkims } from '../test/harness/opendkim.ts';
import { startRspamd } from '../test/harness/rspamd.ts';
import { SmtpClient } from '../test/harness/smtp-client.ts';
import { startSpamd } from '../test/harness/spamd.ts';
import { chainZones, wholeChain } from '../test/harness/whole-chain.ts';

const wanted = Number(process.argv[2] ?? 5_829);
const limitMs = Number(process.argv[3] ?? 600) * 60_000;
const sessions = 4;

class Undo {
  readonly #runs: (() => unknown)[] = [];
  teardown(run: () => unknown): void {
    this.#runs.push(run);
  }
  async all(): Promise<void> {
    for (const run of this.#runs.reverse()) await run();
  }
}

const quantile = (sorted: readonly number[], q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;

/** The address that gave the message to the last server of the corpus' collector. */
function clientOf(bytes: Buffer): string {
  const found = /^Received: [^[\n]*\[(\d{1,3}(?:\.\d{1,3}){3})\]/im.exec(bytes.toString('latin1', 0, 8_000))?.[1];
  return found && !/^(?:0|127|10|192\.168)\./.test(found) ? found : '198.51.100.7';
}

function senderOf(bytes: Buffer): string {
  const head = bytes.toString('latin1', 0, 8_000);
  const found = /^(?:Return-Path|From):[^\n<]*<?([\w.+=-]+@[\w.-]+\.\w+)/im.exec(head)?.[1];
  return found ?? 'unknown@example.net';
}

const nameOf = (client: string): string =>
  `mail${client
    .split('.')
    .reduce((sum, part) => sum * 256 + Number(part), 0)
    .toString(36)}.client.example`;

/** The world as it looked to the collector: a client's name leads back to it, a sender's domain exists. */
function zonesOf(messages: readonly CorpusMessage[]): Zone {
  const zones: Record<string, DnsNode> = { ...chainZones };
  for (const { bytes } of messages) {
    const client = clientOf(bytes);
    const reversed = client.split('.').reverse().join('.');
    zones[`${reversed}.in-addr.arpa`] = { PTR: [nameOf(client)] };
    zones[nameOf(client)] = { A: [client] };
    const domain = senderOf(bytes).replace(/^.*@/, '').toLowerCase();
    zones[domain] ??= { A: [client] };
  }
  return zones;
}

interface Tally {
  readonly times: number[];
  readonly verdicts: Map<string, number>;
}

function count(tally: Map<string, Tally>, outcomes: Map<string, number>, trace: TraceRecord): void {
  const spent = new Map<string, number>();
  for (const step of allSteps(trace)) {
    const one = tally.get(step.plugin) ?? { times: [], verdicts: new Map<string, number>() };
    tally.set(step.plugin, one);
    spent.set(step.plugin, (spent.get(step.plugin) ?? 0) + step.ms);
    if (step.verdict !== 'continue' && step.verdict !== 'accept')
      one.verdicts.set(step.verdict, (one.verdicts.get(step.verdict) ?? 0) + 1);
  }
  for (const [plugin, ms] of spent) tally.get(plugin)?.times.push(ms);
  outcomes.set(trace.outcome, (outcomes.get(trace.outcome) ?? 0) + 1);
}

async function main(): Promise<void> {
  const undo = new Undo();
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-corpus-'));
  undo.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const messages = corpusMessages(wanted);
  const dns = await startDnsServer(zonesOf(messages));
  undo.teardown(() => dns.close());
  const [clamd, spamd, rspamd] = [await startClamd(undo), await startSpamd(undo), await startRspamd(undo)];
  const opendkim = await startOpenDkims(undo, '203.0.113.25');
  const gateway = await startTestGateway({
    folder,
    log: pino({ level: 'error' }, process.stderr),
    listeners:
      '\n  - { name: smtp, role: smtp, port: 0, tls: none, xclient: [127.0.0.0/8], limits: { messagesPerSession: 100000 } }',
    yaml: `
hostname: mx.example.org
domains: [{ name: example.org }]
dns: { servers: ['${dns.address}'] }
chain:${wholeChain({ folder, clamd: clamd.socket, spamd: spamd.socket, rspamd: `127.0.0.1:${rspamd.port}`, milter: opendkim.unix.socket })}`,
  });
  undo.teardown(() => gateway.stop());
  await gateway.gateway.users.add('bob@example.org', { password: 'some-password' });

  const tally = new Map<string, Tally>();
  const outcomes = new Map<string, number>();
  const replies = new Map<string, number>();
  const memory: number[] = [];
  const began = performance.now();
  let next = 0;
  /** Taken out as they are counted: a run shall not measure what it keeps itself. */
  const countTraces = (): void => {
    for (const trace of (gateway.traces as TraceRecord[]).splice(0)) count(tally, outcomes, trace);
    dns.asked.length = 0;
  };
  const port = gateway.port('smtp');
  await Promise.all(
    Array.from({ length: sessions }, async () => {
      const client = await SmtpClient.open(port);
      for (let message = messages[next++]; message; message = messages[next++]) {
        if (performance.now() - began > limitMs) break;
        await client.command(`XCLIENT ADDR=${clientOf(message.bytes)}`, /^220/);
        await client.command(`EHLO ${nameOf(clientOf(message.bytes))}`);
        const mail = { from: senderOf(message.bytes), to: ['bob@example.org'], body: message.bytes };
        const reply = await client.send(mail).catch(async (error: Error) => {
          await client.command('RSET', /^/);
          return error.message.replace(/^Expected .* got /, '');
        });
        const code = reply
          .slice(0, 9)
          .replace(/[^\d. ].*/, '')
          .trim();
        replies.set(code, (replies.get(code) ?? 0) + 1);
        if (next % 100 === 0) {
          countTraces();
          memory.push(process.memoryUsage.rss() / 1024 ** 2);
          console.error(
            `${next} messages, ${((performance.now() - began) / 1000).toFixed(0)} s, ${memory.at(-1)?.toFixed(0)} MiB`,
          );
        }
      }
      client.close();
    }),
  );
  countTraces();
  const total = [...replies.values()].reduce((sum, n) => sum + n, 0);
  const sorted = (map: ReadonlyMap<string, number>): string =>
    [...map]
      .sort((a, b) => b[1] - a[1])
      .map(([name, n]) => `${name} ${n}`)
      .join(', ');
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  console.log(
    `${total} messages at ${commit}, Node ${process.version}, ${((performance.now() - began) / 1000).toFixed(0)} s, ${sessions} sessions.`,
  );
  console.log(`Replies: ${sorted(replies)}. Outcomes: ${sorted(outcomes)}.`);
  console.log(`Memory of the gateway (MiB, each 100 messages): ${memory.map(value => value.toFixed(0)).join(' ')}\n`);
  console.log(
    '| plugin | messages | median ms | p95 ms | verdicts other than continue and accept |\n|---|---:|---:|---:|---|',
  );
  for (const [plugin, { times, verdicts }] of tally) {
    times.sort((a, b) => a - b);
    console.log(
      `| ${plugin} | ${times.length} | ${quantile(times, 0.5).toFixed(2)} | ${quantile(times, 0.95).toFixed(2)} | ${sorted(verdicts)} |`,
    );
  }
  await undo.all();
}

await main();
