// The next hop of the relay benchmark: Postfix's `smtp-sink`, and how many messages it has taken.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { seconds } from '../lib/figures.ts';
import { demandFree } from '../lib/ports.ts';
import { waitForGreeting } from '../lib/processes.ts';

export interface Sink {
  /** Messages taken so far. */
  count(): number;
  /** Resolves to the moment (of `seconds()`) at which it had taken that many; rejects after `limitMs`. */
  reached(count: number, limitMs: number): Promise<number>;
  stop(): Promise<void>;
}

export async function startSink(port: number): Promise<Sink> {
  await demandFree(port, 'smtp-sink');
  const child = spawn('smtp-sink', ['-c', '-u', 'nobody', '-m', '1024', `127.0.0.1:${port}`, '1024'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let taken = 0;
  let news = (): void => undefined;
  let tail = '';
  child.stdout.on('data', (chunk: Buffer) => {
    tail = (tail + chunk.toString('latin1')).slice(-200);
    // Only a counter that is complete: its line end was seen.
    const last = [...tail.matchAll(/mesg=(\d+)[ \r]/g)].at(-1);
    if (!last) return;
    taken = Number(last[1]);
    news();
  });
  await waitForGreeting(port);
  return {
    count: () => taken,
    reached(count, limitMs) {
      return new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`The sink has ${taken} messages, ${count} expected`)), limitMs);
        news = () => {
          if (taken < count) return;
          clearTimeout(late);
          news = () => undefined;
          resolve(seconds());
        };
        news();
      });
    },
    async stop() {
      child.kill();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}
