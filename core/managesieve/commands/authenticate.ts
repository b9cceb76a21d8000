import type { SaslExchange, SaslStep } from '../../accounts/sasl/mechanism.ts';
import { offeredMechanisms } from '../../accounts/sasl/mechanisms.ts';
import { command, type SessionView } from '../command.ts';
import { stringOut } from '../wire.ts';

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function decode(text: string): Buffer | undefined {
  return base64.test(text) ? Buffer.from(text, 'base64') : undefined;
}

function finish(at: SessionView, step: Exclude<SaslStep, { readonly kind: 'challenge' }>): void {
  if (step.kind === 'ok') at.logIn(step.account, step.data);
  else if (step.kind === 'malformed') at.no(`Cannot understand that: ${step.why}`);
  else at.refuseLogin(step.kind === 'unavailable' ? 'TRYLATER' : undefined, step.username, step.why);
}

async function converse(at: SessionView, exchange: SaslExchange, initial: Buffer | undefined): Promise<void> {
  let response = initial;
  for (;;) {
    const step = await exchange.step(response);
    if (step.kind !== 'challenge') return finish(at, step);
    at.lines.write(stringOut(step.data.toString('base64')));
    at.lines.write('\r\n');
    const text = (await at.readString())?.toString('latin1');
    if (text === undefined) return at.no('A string was expected');
    if (text === '*') return at.no('Authentication was cancelled');
    response = decode(text);
    if (response === undefined) return at.no('That is no base64');
  }
}

/** RFC 5804 §2.1 */
export const authenticate = command({
  name: 'AUTHENTICATE',
  state: 'anonymous',
  args: ['text', 'bytes'],
  optional: 1,
  async run(at, name: string, initial?: Buffer) {
    const { directory, verifyToken, scramSha1 } = at.service;
    const mechanism = at.mechanisms.find(one => one.name === name.toUpperCase());
    if (mechanism === undefined) {
      const inTls = offeredMechanisms(at.service, { plaintextAllowed: true, scramSha1 });
      const isPlaintext = inTls.some(one => one.name === name.toUpperCase());
      if (isPlaintext) return at.no('That mechanism is offered only inside TLS', 'ENCRYPT-NEEDED');
      return at.no('That mechanism is not offered');
    }
    const first = initial && decode(initial.toString('latin1'));
    if (initial !== undefined && first === undefined) return at.no('That is no base64');
    const context = { directory, from: at.from, successData: true, ...(verifyToken && { verifyToken }) };
    await converse(at, mechanism.start(context), first);
  },
});
