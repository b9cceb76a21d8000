import type { SaslExchange, SaslStep } from '../../accounts/sasl/mechanism.ts';
import type { Command, SessionView } from '../command.ts';
import { maxAuthBytes } from '../limits.ts';
import { writeLines } from '../multiline.ts';

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function finish(at: SessionView, step: Exclude<SaslStep, { readonly kind: 'challenge' }>): Promise<void> | void {
  if (step.kind === 'ok') return at.logIn(step.account);
  if (step.kind === 'malformed') return at.err(`Cannot understand that: ${step.why}`);
  at.refuseLogin(step.kind === 'refused' ? 'AUTH' : 'SYS/TEMP', step.username, step.why);
}

/** RFC 5034 §4. */
async function converse(at: SessionView, exchange: SaslExchange, initial: Buffer | undefined): Promise<void> {
  let response = initial;
  for (;;) {
    const step = await exchange.step(response);
    if (step.kind !== 'challenge') return finish(at, step);
    at.lines.write(`+ ${step.data.toString('base64')}\r\n`);
    const line = (await at.lines.readLine(maxAuthBytes)).toString('latin1');
    if (line === '*') return at.err('Authentication was cancelled');
    if (!base64.test(line)) return at.err('That is no base64');
    response = Buffer.from(line, 'base64');
  }
}

export const auth: Command = {
  name: 'AUTH',
  states: ['authorization'],
  async run(at, args) {
    // Older clients ask for the list so; RFC 5034 leaves it to CAPA.
    if (args === '') {
      at.ok('Mechanisms follow');
      return writeLines(
        at.lines,
        at.mechanisms.map(({ name }) => name),
      );
    }
    const [name = '', initial, ...more] = args.split(' ');
    const mechanism = at.mechanisms.find(one => one.name === name.toUpperCase());
    if (more.length > 0) return at.err('AUTH takes a mechanism and an initial response');
    if (mechanism === undefined) {
      const why = at.plaintextAllowed ? 'That mechanism is not offered' : 'That mechanism is not offered outside TLS';
      return at.err(why, 'AUTH');
    }
    // RFC 5034 §4: "=" is an empty initial response.
    if (initial !== undefined && initial !== '=' && !base64.test(initial)) return at.err('That is no base64');
    const { directory, verifyToken } = at.service;
    const context = { directory, from: at.from, successData: false, ...(verifyToken && { verifyToken }) };
    const first = initial === undefined ? undefined : Buffer.from(initial === '=' ? '' : initial, 'base64');
    await converse(at, mechanism.start(context), first);
  },
};
