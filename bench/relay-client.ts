// The outbound session beside nodemailer's own `send`, on the same connection and server (smtp-sink): messages per
// second and CPU. Interleaved rounds, medians. Run: node build/bench/relay-client.js [messages per round]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import { systemClock } from '../core/lib/clock.ts';
import { bufferRope, ropeChunks } from '../core/mail/rope.ts';
import { openSession } from '../core/relay/client.ts';

const line = 'seventy characters of text fill this line to its very end, and more\r\n';
const sizes = {
  '10 KB': Buffer.from(`Subject: x\r\n\r\n${line.repeat(145)}`),
  '1 MB': Buffer.from(`Subject: x\r\n\r\n${line.repeat(15_000)}`),
};

type Sender = (bytes: Buffer) => Promise<void>;

async function ours(port: number): Promise<{ readonly send: Sender; readonly end: () => Promise<void> }> {
  const signal = new AbortController().signal;
  const session = await openSession({
    address: '127.0.0.1',
    port,
    host: '127.0.0.1',
    helo: 'bench.test',
    lmtp: false,
    implicitTls: false,
    policy: { kind: 'none' },
    connectMs: 5_000,
    greetingMs: 5_000,
    clock: systemClock,
    signal,
  });
  return {
    async send(bytes) {
      const answers = await session.send(
        {
          prelude: [],
          mail: 'MAIL FROM:<a@bench.test>',
          rcpt: ['RCPT TO:<b@bench.test>'],
          body: { size: bytes.length, chunks: () => ropeChunks(bufferRope(bytes)) },
          chunking: false,
        },
        signal,
      );
      if (!answers[0]?.ok) throw new Error('Refused');
    },
    end: () => session.quit(),
  };
}

async function theirs(port: number): Promise<{ readonly send: Sender; readonly end: () => Promise<void> }> {
  const connection = new SMTPConnection({ host: '127.0.0.1', port, ignoreTLS: true, logger: false });
  await new Promise<void>((resolve, reject) => {
    connection.once('error', reject);
    connection.connect(error => (error ? reject(error) : resolve()));
  });
  return {
    send: bytes =>
      new Promise((resolve, reject) => {
        connection.send({ from: 'a@bench.test', to: ['b@bench.test'] }, bytes, error =>
          error ? reject(error) : resolve(),
        );
      }),
    end: async () => connection.close(),
  };
}

async function measure(make: typeof ours, port: number, bytes: Buffer, count: number, connections: number) {
  const senders = await Promise.all(Array.from({ length: connections }, () => make(port)));
  const cpu = process.cpuUsage();
  const from = performance.now();
  let left = count;
  await Promise.all(
    senders.map(async ({ send }) => {
      while (left > 0) {
        left -= 1;
        await send(bytes);
      }
    }),
  );
  const ms = performance.now() - from;
  const { user, system } = process.cpuUsage(cpu);
  await Promise.all(senders.map(({ end }) => end()));
  return { rate: (count / ms) * 1000, cpu: (user + system) / 1000 / count };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function main(count: number): Promise<void> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise<void>(resolve => server.close(() => resolve()));
  const sink = spawn('smtp-sink', ['-u', 'nobody', `127.0.0.1:${port}`, '256'], { stdio: 'inherit' });
  await new Promise(resolve => setTimeout(resolve, 500));
  for (const [name, bytes] of Object.entries(sizes))
    for (const connections of [1, 10]) {
      const runs: Record<string, { readonly rate: number; readonly cpu: number }[]> = { session: [], nodemailer: [] };
      const messages = name === '1 MB' ? Math.ceil(count / 40) : count;
      for (let round = 0; round < 5; round += 1) {
        runs['session']?.push(await measure(ours, port, bytes, messages, connections));
        runs['nodemailer']?.push(await measure(theirs, port, bytes, messages, connections));
      }
      for (const [who, results] of Object.entries(runs))
        console.log(
          `${name}, ${connections} connection(s), ${who}: ${median(results.map(each => each.rate)).toFixed(0)} messages/s, CPU ${median(results.map(each => each.cpu)).toFixed(3)} s per 1,000`,
        );
    }
  sink.kill();
}

await main(Number(process.argv[2] ?? 4_000));
