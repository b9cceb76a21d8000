// SMTP by hand, one command at a time: to look at a server, not to send mail through it.
import type { WireClient } from '../lib/wire-client.ts';

export interface Reply {
  readonly code: number;
  readonly lines: readonly string[];
}

export async function reply(wire: WireClient): Promise<Reply> {
  const lines: string[] = [];
  for (;;) {
    const line = (await wire.line(4096)).toString('latin1');
    const match = /^([2-5]\d\d)(?:([ -])(.*))?$/.exec(line);
    if (!match) throw new Error(`Not an SMTP server: '${line.slice(0, 60)}'`);
    lines.push(match[3] ?? '');
    if (lines.length > 100) throw new Error('Not an SMTP server: its reply does not end');
    if (match[2] !== '-') return { code: Number(match[1]), lines };
  }
}

export async function command(wire: WireClient, line: string): Promise<Reply> {
  wire.write(`${line}\r\n`);
  return reply(wire);
}
