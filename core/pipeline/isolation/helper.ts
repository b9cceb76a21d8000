// First thread of an isolated plugin's process. It runs nothing of the plugin: it starts the thread that does, within
// the memory cap, watches what the process uses, and ends with the gateway. The plugin's process is one of its own
// because V8 ends the whole process, and not the thread, for some allocations beyond a thread's limit.
import { writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { channels, encodeFrame, FrameReader, type Start } from './protocol.ts';

const entry = new URL(`./thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
const mebibyte = 1024 * 1024;
const watchMs = 100;
/** What Node itself and code take, besides the heap. */
const overheadBytes = 96 * mebibyte;

const gateway = new Socket({ fd: channels.helper, readable: true, writable: true });
const exit = (): void => {
  process.kill(process.pid, 'SIGKILL');
};
const end = (why: string): void => void gateway.write(encodeFrame({ why }), exit);

function run({ memoryBytes }: Start): void {
  const memoryMb = Math.ceil(memoryBytes / mebibyte);
  const tooMuch = `Used more than its ${memoryMb} MiB of memory`;
  const limit = process.memoryUsage.rss() + memoryBytes + overheadBytes;
  // Buffers are outside of the heap that `resourceLimits` knows.
  setInterval(() => {
    if (process.memoryUsage.rss() > limit) end(tooMuch);
  }, watchMs);
  const worker = new Worker(entry, {
    name: 'plugin',
    resourceLimits: {
      maxOldGenerationSizeMb: memoryMb,
      maxYoungGenerationSizeMb: Math.max(2, Math.min(32, Math.floor(memoryMb / 8))),
    },
  });
  worker.on('error', (error: Error & { readonly code?: string }) =>
    end(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? tooMuch : `Uncaught ${error.name}: ${error.message}`),
  );
  worker.on('exit', code => end(`Called process.exit(${code})`));
}

// A terminal and a service manager send these to all processes; the gateway says when it is time.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
gateway.on('error', exit).on('close', exit);
try {
  // Where the machine runs out of memory, rather this process than the gateway.
  writeFileSync('/proc/self/oom_score_adj', '1000');
} catch {
  // Not Linux, or not allowed: the cap still holds.
}
const reader = new FrameReader<Start>();
gateway.on('data', chunk => {
  for (const start of reader.push(chunk)) run(start);
});
