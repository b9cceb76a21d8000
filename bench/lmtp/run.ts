// What a 20-rule script costs per delivered message: Postern beside Dovecot with Pigeonhole, each with and without the
// script, interleaved in one run.
//   node build/bench/lmtp/run.js [--runs=3] [--messages=2000] [--warmup=2000] [--sessions=10] [--only=postern]
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root } from '../../test/harness/root.ts';
import { fsyncProbeMs, markdownTable, median, seconds } from '../lib/figures.ts';
import { type OwnDisk, ownDisk } from '../lib/own-disk.ts';
import { cpuSeconds } from '../lib/processes.ts';
import { ruleMessage } from '../lib/rules.ts';
import type { LmtpContestant } from './contestant.ts';
import { dovecot } from './dovecot.ts';
import { postern } from './postern.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    messages: { type: 'string', default: '2000' },
    sessions: { type: 'string', default: '10' },
    warmup: { type: 'string', default: '2000' },
    only: { type: 'string' },
  },
});
const messages = Array.from({ length: Number(values.messages) }, (_, at) => Buffer.from(ruleMessage(at)));

class Session {
  readonly #socket: Socket;
  #heard = '';
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', chunk => {
      this.#heard += chunk.toString('latin1');
      this.#wake?.();
    });
  }

  static async open(port: number): Promise<Session> {
    const session = new Session(connect({ port, host: '127.0.0.1', noDelay: true }));
    await session.#reply();
    await session.#command('LHLO bench');
    return session;
  }

  async #reply(): Promise<string> {
    for (;;) {
      const last = /^\d{3} .*\r\n/m.exec(this.#heard);
      if (last) {
        const reply = this.#heard.slice(0, last.index + last[0].length);
        this.#heard = this.#heard.slice(reply.length);
        if (!/^[23]/.test(last[0])) throw new Error(reply);
        return reply;
      }
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
  }

  #command(text: string): Promise<string> {
    this.#socket.write(`${text}\r\n`);
    return this.#reply();
  }

  async send(user: string, message: Buffer): Promise<void> {
    await this.#command('MAIL FROM:<a@example.org>');
    await this.#command(`RCPT TO:<${user}@bench.local>`);
    await this.#command('DATA');
    this.#socket.write(Buffer.concat([message, Buffer.from('.\r\n')]));
    await this.#reply();
  }

  close(): void {
    this.#socket.destroy();
  }
}

interface Run {
  readonly name: string;
  readonly user: string;
  readonly rate: number;
  readonly cpuMs: number;
  readonly fsyncMs: number;
}

const maildirs = (folder: string): number => readdirSync(folder).filter(name => /^\.[A-Z]/.test(name)).length;

async function sendAll(sessions: readonly Session[], user: string, all: readonly Buffer[]): Promise<void> {
  let next = 0;
  await Promise.all(
    sessions.map(async session => {
      for (let message = all[next++]; message; message = all[next++]) await session.send(user, message);
    }),
  );
}

async function measure(contestant: LmtpContestant, disk: OwnDisk, user: string): Promise<Run> {
  disk.renew();
  await contestant.prepare();
  const daemon = await contestant.start();
  try {
    const sessions = await Promise.all(
      Array.from({ length: Number(values.sessions) }, () => Session.open(contestant.port)),
    );
    // Mailboxes are made, caches filled and code compiled before it counts.
    await sendAll(
      sessions,
      user,
      Array.from({ length: Number(values.warmup) }, (_, at) => messages[at % messages.length] ?? Buffer.alloc(0)),
    );
    const fsyncMs = fsyncProbeMs(contestant.folder);
    const cpu = cpuSeconds(daemon.pid);
    const begin = seconds();
    await sendAll(sessions, user, messages);
    const took = seconds() - begin;
    const cpuMs = ((cpuSeconds(daemon.pid) - cpu) / messages.length) * 1000;
    for (const session of sessions) session.close();
    // The script did what it says: 8 topics and 4 lists.
    const folders = maildirs(contestant.maildir(user));
    if (folders !== (user === 'sieve' ? 12 : 0)) throw new Error(`${contestant.name} made ${folders} mailboxes`);
    return { name: contestant.name, user, rate: messages.length / took, cpuMs, fsyncMs };
  } finally {
    await daemon.stop();
  }
}

function report(runs: readonly Run[], names: readonly string[]): string {
  const of = (name: string, user: string, pick: (run: Run) => number): number =>
    median(runs.filter(run => run.name === name && run.user === user).map(pick));
  const rows = names.map(name => {
    const [plain, sieve] = ['plain', 'sieve'].map(user => of(name, user, run => run.cpuMs)) as [number, number];
    const rates = ['plain', 'sieve'].map(user => of(name, user, run => run.rate).toFixed(0));
    return [name, ...rates, plain.toFixed(2), sieve.toFixed(2), (sieve - plain).toFixed(2)];
  });
  const head = ['contestant', 'messages/s without', 'with the script', 'CPU ms without', 'with', 'the script'];
  return markdownTable(head, rows);
}

const scratch = mkdtempSync(path.join(tmpdir(), 'postern-lmtp-'));
// Dovecot delivers as another user.
chmodSync(scratch, 0o755);
const disks = new Map<string, OwnDisk>();
try {
  const all = [postern(scratch, root), dovecot(scratch)];
  const wanted = values.only === undefined ? all : all.filter(each => values.only?.split(',').includes(each.name));
  for (const each of wanted)
    if (!each.available()) console.log(`${each.name} is left out: not installed (or not root)`);
  const contestants = wanted.filter(each => each.available());
  for (const { folder } of contestants) disks.set(folder, ownDisk(folder));
  const runs: Run[] = [];
  for (let round = 0; round < Number(values.runs); round++)
    for (const user of ['plain', 'sieve'])
      for (const contestant of contestants) {
        const run = await measure(contestant, disks.get(contestant.folder) as OwnDisk, user);
        runs.push(run);
        console.log(
          `#${round} ${run.name.padEnd(8)} ${user.padEnd(6)} ${run.rate.toFixed(0).padStart(5)} messages/s  ${run.cpuMs.toFixed(2)} ms CPU a message  fsync ${run.fsyncMs.toFixed(2)} ms`,
        );
      }
  const names = contestants.map(({ name }) => name);
  console.log(`\n${report(runs, names)}`);
} catch (error) {
  // Before the clearing up, which may fail as well then.
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const disk of disks.values()) disk.remove();
  rmSync(scratch, { recursive: true, force: true });
}
