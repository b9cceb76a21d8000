// A mail program that submits over implicit TLS: the one of Debian's packages that knows SCRAM and bearer tokens.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface MsmtpCall {
  readonly port: number;
  /** As msmtp calls it: `scram-sha-256`, `oauthbearer` … */
  readonly auth: string;
  readonly user: string;
  /** Password or token: one word, for a shell prints it. */
  readonly secret: string;
  readonly from: string;
  readonly to: string;
}

/** Rejects where the message was not taken, with what the server said. */
export async function msmtp({ port, auth, user, secret, from, to }: MsmtpCall, message: string): Promise<void> {
  const sent = run('msmtp', [
    '--file=/dev/null',
    '--host=127.0.0.1',
    `--port=${port}`,
    '--tls=on',
    '--tls-starttls=off',
    '--tls-certcheck=off',
    `--auth=${auth}`,
    `--user=${user}`,
    `--passwordeval=echo ${secret}`,
    `--from=${from}`,
    to,
  ]);
  sent.child.stdin?.end(message);
  await sent;
}
