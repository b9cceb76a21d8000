// Entry of a password thread: one task at a time, so that hashing never holds the event loop nor the thread pool that
// file access shares.
import { parentPort } from 'node:worker_threads';
import type { ScramHash } from './directory.ts';
import { formatScram, makeScramVerifier } from './schemes/scram-verifier.ts';
import { hashWithScrypt, type Match, makeVerify } from './schemes/verify.ts';

export type PasswordTask =
  | { readonly kind: 'verify'; readonly stored: string; readonly password: string }
  | { readonly kind: 'hash'; readonly password: string; readonly ln: number }
  | {
      readonly kind: 'scram';
      readonly password: string;
      readonly hash: ScramHash;
      readonly salt: Uint8Array;
      readonly iterations: number;
    };

export type PasswordReply = { readonly value: string } | { readonly error: string };

function run(task: PasswordTask, verify: (stored: string, password: string) => Match): string {
  switch (task.kind) {
    case 'verify':
      return verify(task.stored, task.password);
    case 'hash':
      return hashWithScrypt(task.password, task.ln);
    case 'scram':
      return formatScram(makeScramVerifier(task.password, task.hash, task.salt, task.iterations));
  }
}

if (parentPort !== null) {
  const port = parentPort;
  const verify = makeVerify();
  port.on('message', (task: PasswordTask) => {
    let reply: PasswordReply;
    try {
      reply = { value: run(task, verify) };
    } catch (error) {
      reply = { error: error instanceof Error ? error.message : String(error) };
    }
    port.postMessage(reply);
  });
}
