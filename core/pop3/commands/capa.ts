import type { Command, SessionView } from '../command.ts';
import { writeLines } from '../multiline.ts';

/** RFC 2449 §5 and §6; RESP-CODES and AUTH-RESP-CODE (RFC 3206), STLS (RFC 2595 §4), SASL (RFC 5034 §6), UTF8 and LANG (RFC 6856). */
export function capabilities(at: SessionView): readonly string[] {
  const { options } = at.service;
  const before = at.state === 'authorization';
  const mechanisms = at.mechanisms.map(({ name }) => name);
  return [
    'TOP',
    'UIDL',
    'RESP-CODES',
    'AUTH-RESP-CODE',
    'PIPELINING',
    ...(before && at.plaintextAllowed ? ['USER'] : []),
    ...(before && mechanisms.length > 0 ? [`SASL ${mechanisms.join(' ')}`] : []),
    ...(at.canStartTls ? ['STLS'] : []),
    `EXPIRE ${options.expireDays === undefined ? 'NEVER' : options.expireDays}`,
    ...(options.loginDelaySeconds > 0 ? [`LOGIN-DELAY ${options.loginDelaySeconds}`] : []),
    'UTF8 USER',
    'LANG',
    'IMPLEMENTATION Postern',
  ];
}

export const capa: Command = {
  name: 'CAPA',
  states: ['authorization', 'transaction'],
  async run(at, args) {
    if (args !== '') return at.err('CAPA takes no argument');
    at.ok('Capability list follows');
    await writeLines(at.lines, capabilities(at));
  },
};
