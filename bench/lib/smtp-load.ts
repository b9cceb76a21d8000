// Load of SMTP sessions that do not pipeline, as `smtp-source` makes it, and the time of every message from MAIL to its last
// 250. A program of its own, so that its CPU is not a contestant's:
//   node build/bench/lib/smtp-load.js PORT SESSIONS MESSAGES BYTES reuse|anew
// Prints one line of JSON, `LoadResult`.
import { connect, type Socket } from 'node:net';
import { pathToFileURL } from 'node:url';

export interface LoadResult {
  readonly seconds: number;
  /** ms from MAIL to the reply to the end of data, one per message, ascending. */
  readonly times: readonly number[];
}

function message(bytes: number): Buffer {
  const head = 'From: a@example.org\r\nTo: b@bench.local\r\nSubject: load\r\nMessage-ID: <load@example.org>\r\n\r\n';
  const line = 'Seventy characters of text fill this line to its very end, and more.\r\n';
  const lines = Math.max(1, Math.ceil((bytes - head.length) / line.length));
  return Buffer.from(`${head}${line.repeat(lines)}.\r\n`);
}

interface Work {
  /** Takes a message; false when none is left. */
  take(): boolean;
  took(ms: number): void;
}

/** One connection: one message, or as many as there are. */
function runConnection(port: number, body: Buffer, reuse: boolean, work: Work): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const steps = ['MAIL FROM:<a@example.org>\r\n', 'RCPT TO:<b@bench.local>\r\n', 'DATA\r\n', body];
    const expected = ['250', '250', '354', '250'];
    /** -2: the greeting, -1: the answer to HELO, then the index into `steps`, then QUIT. */
    let at = -2;
    let began = 0;
    let text = '';
    const send = (what: string | Buffer): void => void socket.write(what);
    const begin = (): void => {
      at = 0;
      began = performance.now();
      send(steps[0] ?? '');
    };
    const heard = (code: string): void => {
      if (at === steps.length) return;
      const wanted = at === -2 ? '220' : at === -1 ? '250' : expected[at];
      if (code !== wanted) socket.destroy(new Error(`${wanted} expected at step ${at}: ${text.trim()}`));
      else if (at === -2) {
        at = -1;
        send('EHLO load.example.org\r\n');
      } else if (at === -1) begin();
      else if (at < steps.length - 1) send(steps[++at] ?? '');
      else {
        work.took(performance.now() - began);
        if (reuse && work.take()) begin();
        else {
          at = steps.length;
          send('QUIT\r\n');
        }
      }
    };
    socket.on('data', chunk => {
      text += chunk.toString('latin1');
      const end = /(?:^|\n)(\d{3}) [^\n]*\n$/.exec(text);
      if (!end) return;
      heard(end[1] ?? '');
      text = '';
    });
    socket.on('error', reject);
    socket.on('close', () => (at === steps.length ? resolve() : reject(new Error('Connection closed too early'))));
  });
}

export async function runLoad(
  port: number,
  sessions: number,
  messages: number,
  bytes: number,
  reuse: boolean,
): Promise<LoadResult> {
  const body = message(bytes);
  const times: number[] = [];
  let left = messages;
  const work: Work = { take: () => left-- > 0, took: ms => void times.push(ms) };
  const began = performance.now();
  const session = async (): Promise<void> => {
    while (work.take()) await runConnection(port, body, reuse, work);
  };
  await Promise.all(Array.from({ length: sessions }, session));
  return { seconds: (performance.now() - began) / 1000, times: times.sort((a, b) => a - b) };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [port = 0, sessions = 1, messages = 1, bytes = 1000] = process.argv.slice(2, 6).map(Number);
  console.log(JSON.stringify(await runLoad(port, sessions, messages, bytes, process.argv[6] === 'reuse')));
}
