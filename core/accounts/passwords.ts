// Hashing and checking of passwords on threads of their own: at most `threads` at once, a bounded number waiting, so a
// flood of logins costs logins and nothing else. Threads start with the first task and do not keep the process alive.
import { randomBytes } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { ScramHash } from './directory.ts';
import type { PasswordReply, PasswordTask } from './password-worker.ts';
import { isCurrentHash, type Match } from './schemes/verify.ts';

export interface PasswordOptions {
  /** Default 2. */
  readonly threads?: number;
  /** Default 200. */
  readonly maxWaiting?: number;
  /** log2 of scrypt's N for new hashes. Default 15: about 100 ms and 32 MiB. */
  readonly scryptLn?: number;
  /** For stored SCRAM verifiers. Default 100,000: below that they would be the easier thing to guess against. */
  readonly scramIterations?: number;
}

export interface Passwords {
  /** `{SCRYPT}…` */
  hash(password: string): Promise<string>;
  verify(stored: string, password: string): Promise<Match>;
  /** Takes as long as `verify` does for a current hash. */
  waste(password: string): Promise<void>;
  /** Salted anew; the text that `{SCRAM-SHA-…}` holds. */
  scramVerifier(password: string, hash: ScramHash): Promise<string>;
  /** False for a hash that should be replaced at the next login. */
  isCurrent(stored: string): boolean;
  readonly scramIterations: number;
  /** Ends the threads; what waits is rejected. */
  close(): Promise<void>;
}

/** Beside this file, with the same ending: `.js` compiled, `.ts` where Node strips types. */
const entry = new URL(`./password-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

interface Waiting {
  readonly task: PasswordTask;
  readonly resolve: (value: string) => void;
  readonly reject: (error: Error) => void;
}

export function openPasswords(options: PasswordOptions = {}): Passwords {
  const { threads = 2, maxWaiting = 200, scryptLn = 15, scramIterations = 100_000 } = options;
  const queue: Waiting[] = [];
  const idle: Worker[] = [];
  const busy = new Map<Worker, Waiting>();
  const random = (size: number): string => randomBytes(size).toString('base64');
  /** Nobody's: no password is known to give it. */
  const dummy = `{SCRYPT}ln=${scryptLn},r=8,p=1$${random(16)}$${random(32)}`;
  let closed = false;

  function start(): Worker {
    const worker = new Worker(entry, { name: 'passwords' });
    worker.on('message', (reply: PasswordReply) => {
      const done = busy.get(worker);
      busy.delete(worker);
      worker.unref();
      idle.push(worker);
      if ('value' in reply) done?.resolve(reply.value);
      else done?.reject(new Error(`Cannot compute a password hash: ${reply.error}`));
      next();
    });
    const onGone = (cause: unknown): void => {
      const lost = busy.get(worker);
      busy.delete(worker);
      const at = idle.indexOf(worker);
      if (at >= 0) idle.splice(at, 1);
      lost?.reject(new Error('The password thread ended', { cause }));
      if (!closed) next();
    };
    worker.on('error', onGone);
    worker.on('exit', code => onGone(new Error(`Exit code ${code}`)));
    return worker;
  }

  function next(): void {
    while (queue.length > 0 && (idle.length > 0 || busy.size < threads)) {
      const waiting = queue.shift();
      if (waiting === undefined) return;
      const worker = idle.pop() ?? start();
      worker.ref();
      busy.set(worker, waiting);
      worker.postMessage(waiting.task);
    }
  }

  function ask(task: PasswordTask): Promise<string> {
    if (closed) return Promise.reject(new Error('The password threads are closed'));
    if (queue.length >= maxWaiting) return Promise.reject(new Error('Too many password checks are waiting'));
    return new Promise((resolve, reject) => {
      queue.push({ task, resolve, reject });
      next();
    });
  }

  return {
    scramIterations,
    isCurrent: stored => isCurrentHash(stored, scryptLn),
    hash: password => ask({ kind: 'hash', password, ln: scryptLn }),
    verify: async (stored, password) => (await ask({ kind: 'verify', stored, password })) as Match,
    async waste(password) {
      await ask({ kind: 'verify', stored: dummy, password });
    },
    scramVerifier: (password, hash) =>
      ask({ kind: 'scram', password, hash, salt: randomBytes(16), iterations: scramIterations }),
    async close() {
      closed = true;
      for (const { reject } of queue.splice(0)) reject(new Error('The password threads are closed'));
      await Promise.all([...idle, ...busy.keys()].map(worker => worker.terminate()));
    },
  };
}
