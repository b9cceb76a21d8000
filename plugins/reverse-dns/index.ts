// Does the client's address have a name, does the name lead back to the address, and is it the name of a server?
// What the DNS does not say is never held against a client for good.
import { isIP } from 'node:net';
import {
  type Connected,
  clientPolicy,
  clientPolicyFields,
  definePlugin,
  type Gate,
  type Host,
  pass,
  type Reply,
  unmapAddress,
  z,
} from '../../core/plugin/index.ts';
import { isGenericName } from './generic-name.ts';
import { type ReverseDns, reverseDnsResult } from './results.ts';

const action = (preset: 'mark' | 'defer' | 'reject', doc: string) =>
  z.enum(['mark', 'defer', 'reject']).default(preset).describe(doc);

const options = z.strictObject({
  missing: action(
    'mark',
    'The address has no name. `mark`: it goes to the trace and to `score`; `defer`: 450; `reject`: 550.',
  ),
  unconfirmed: action('mark', 'It has a name, but none that leads back to the address (RFC 1912 §2.1).'),
  generic: action(
    'mark',
    'The name is that of a customer’s line: made from the address, or with words such as `dsl` or `dynamic`.',
  ),
  temperror: z
    .enum(['pass', 'defer'])
    .default('pass')
    .describe('The DNS does not answer, and the client might have to be refused: let it pass, or 451.'),
  maxNames: z.number().int().positive().max(20).default(5).describe('Names of one address that are followed.'),
  ...clientPolicyFields({ clients: 'looked at', recipients: 'refused' }),
});
type Options = z.infer<typeof options>;

const texts = {
  missing: 'Client has no reverse name in the DNS',
  unconfirmed: 'Reverse name of the client does not lead back to its address',
  generic: 'Reverse name of the client is that of a dynamic line; use the mail server of your provider',
} as const;
const unsure: Reply<4> = { code: 451, enhanced: '4.7.25', text: 'Reverse name of the client cannot be found now' };

type Fault = keyof typeof texts;

async function lookUp(at: Connected, host: Host, maxNames: number): Promise<ReverseDns> {
  const address = unmapAddress(at.session.remote.address);
  const pointers = await host.dns.ptr(address, at.signal);
  if (pointers.kind === 'tempfail') return { kind: 'unknown', generic: false };
  const [first, ...others] = pointers.kind === 'found' ? pointers.records.slice(0, maxNames) : [];
  if (first === undefined) return { kind: 'missing', generic: false };
  const ask = (name: string) => (isIP(address) === 6 ? host.dns.aaaa(name, at.signal) : host.dns.a(name, at.signal));
  const names = [first, ...others];
  const answers = await Promise.all(names.map(ask));
  const confirmed = names.find((_, index) => {
    const answer = answers[index];
    return answer?.kind === 'found' && answer.records.some(record => unmapAddress(record) === address);
  });
  if (confirmed !== undefined)
    return { kind: 'confirmed', name: confirmed, generic: isGenericName(confirmed, address) };
  const unknown = answers.some(answer => answer.kind === 'tempfail');
  return { kind: unknown ? 'unknown' : 'unconfirmed', name: first, generic: isGenericName(first, address) };
}

/** RFC 7372 §3.3: X.7.25. */
function judge(found: ReverseDns, settings: Options): Gate {
  const faults: Fault[] = [
    ...(found.kind === 'missing' || found.kind === 'unconfirmed' ? [found.kind] : []),
    ...(found.generic ? (['generic'] as const) : []),
  ];
  for (const wanted of ['reject', 'defer'] as const)
    for (const fault of faults) {
      if (settings[fault] !== wanted) continue;
      const why = `Reverse name ${found.name ?? 'none'}: ${fault}`;
      return wanted === 'reject'
        ? { kind: 'reject', reply: { code: 550, enhanced: '5.7.25', text: texts[fault] }, why }
        : { kind: 'defer', reply: { code: 450, enhanced: '4.7.25', text: texts[fault] }, why };
    }
  const matters = [settings.missing, settings.unconfirmed].some(each => each !== 'mark');
  if (found.kind === 'unknown' && matters && settings.temperror === 'defer')
    return { kind: 'defer', reply: unsure, why: 'DNS failure' };
  return pass;
}

export const reverseDns = definePlugin({
  name: 'reverse-dns',
  doc: 'Refuses or marks clients without a confirmed reverse name, or with that of a dynamic line.',
  options,
  writes: [reverseDnsResult],
  setup(settings, host) {
    const { isExempt, isSpared } = clientPolicy(settings, host);
    return {
      async connect(at) {
        if (isExempt(at)) return pass;
        const found = await lookUp(at, host, settings.maxNames);
        at.set(reverseDnsResult, found);
        at.evidence({ reverse: found });
        return pass;
      },
      // Not at the greeting: users are known only now.
      rcpt(at, to) {
        const found = at.get(reverseDnsResult);
        return found === undefined || isExempt(at) || isSpared(to) ? pass : judge(found, settings);
      },
    };
  },
});
