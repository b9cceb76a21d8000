// What a client calls itself: RFC 5321 §4.1.1.1 asks for its domain name, or its address as a literal. Decided at RCPT, for
// mail programs of users give any name and are known only then. What the DNS does not say is held against nobody for good.
import {
  addressBytes,
  clientPolicy,
  clientPolicyFields,
  definePlugin,
  type Gate,
  type Host,
  type InMail,
  parseDomain,
  pass,
  type Reply,
  z,
} from '../../core/plugin/index.ts';
import { type HeloFault, heloFaults, heloResult } from './results.ts';

// RFC 5321 §4.1.4: a server may verify that the name belongs to the client's address, but "MUST NOT refuse to accept a
// message on that basis".
const decisive = heloFaults.filter(fault => fault !== 'mismatch') as Exclude<HeloFault, 'mismatch'>[];
const faultList = (preset: readonly (typeof decisive)[number][], doc: string) =>
  z
    .array(z.enum(decisive as [(typeof decisive)[number], ...(typeof decisive)[number][]]))
    .default([...preset])
    .describe(doc);

const options = z.strictObject({
  reject: faultList(
    ['own-name'],
    'Faults for which recipients are refused (550). `syntax`: neither a name nor a literal; `address`: an address without brackets; `literal`: the literal of another address; `not-qualified`: a name without a dot; `own-name`: our own name; `unknown-host`: the DNS knows no such host. All others, and `mismatch` (the name does not lead to the client, for which RFC 5321 §4.1.4 forbids to refuse), go to the trace and to `score`.',
  ),
  defer: faultList([], 'Faults for which the client is told to come again (450).'),
  temperror: z
    .enum(['pass', 'defer'])
    .default('pass')
    .describe('The DNS does not answer, and `unknown-host` is refused: let the client pass, or 451.'),
  ...clientPolicyFields({ clients: 'looked at', recipients: 'refused' }),
});

const texts: Readonly<Record<HeloFault, string>> = {
  syntax: 'HELO name is neither a domain name nor an address literal',
  address: 'HELO with an address needs brackets',
  literal: 'HELO literal is not the address of the client',
  'not-qualified': 'HELO name is not fully qualified',
  'own-name': 'HELO name is that of this server',
  'unknown-host': 'HELO name is no known host',
  mismatch: 'HELO name does not belong to the address of the client',
};
const unsure: Reply<4> = { code: 451, enhanced: '4.7.1', text: 'HELO name cannot be verified now, try again later' };

interface Looked {
  readonly faults: readonly HeloFault[];
  readonly isUnsure: boolean;
}
const only = (...faults: readonly HeloFault[]): Looked => ({ faults, isUnsure: false });
const same = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a !== undefined && b !== undefined && Buffer.compare(a, b) === 0;

/** RFC 5321 §4.1.3: `[192.0.2.1]`, `[IPv6:2001:db8::1]`. */
function literalFault(literal: string, client: string): Looked {
  const text = /^\[(?:IPv6:(?<v6>[0-9a-f:.]+)|(?<v4>[0-9.]+))\]$/i.exec(literal)?.groups;
  const bytes = addressBytes(text?.['v6'] ?? text?.['v4'] ?? '');
  if (!bytes) return only('syntax');
  return same(bytes, addressBytes(client)) ? only() : only('literal');
}

async function inDns(at: InMail, name: string, host: Host): Promise<Looked> {
  const answers = await Promise.all([host.dns.a(name, at.signal), host.dns.aaaa(name, at.signal)]);
  const records = answers.flatMap(answer => (answer.kind === 'found' ? answer.records : []));
  const client = addressBytes(at.session.remote.address);
  if (records.some(record => same(addressBytes(record), client))) return only();
  if (records.length > 0) return only('mismatch');
  if (answers.some(({ kind }) => kind === 'tempfail')) return { faults: [], isUnsure: true };
  // A domain that only receives mail is a known name, too.
  const mail = await host.dns.mx(name, at.signal);
  if (mail.kind === 'tempfail') return { faults: [], isUnsure: true };
  return mail.kind === 'found' ? only('mismatch') : only('unknown-host');
}

function isOwnName(name: string, host: Host): boolean {
  const kind = host.mailboxes.domainKind(name);
  // The server behind us may call itself by the domain that we relay for it.
  return name === host.hostname.toLowerCase() || kind === 'local' || kind === 'virtual';
}

async function look(at: InMail, host: Host): Promise<Looked> {
  const helo = at.helo.trim();
  if (helo.startsWith('[')) return literalFault(helo, at.session.remote.address);
  if (addressBytes(helo)) return only('address');
  const name = parseDomain(helo.replace(/\.$/, ''))?.toLowerCase();
  if (name === undefined || !/^[\w.-]+$/.test(name)) return only('syntax');
  if (isOwnName(name, host)) return only('own-name');
  if (!name.includes('.')) return only('not-qualified');
  return inDns(at, name, host);
}

export const helo = definePlugin({
  name: 'helo',
  doc: 'Refuses or marks clients whose HELO name cannot be theirs.',
  options,
  writes: [heloResult],
  setup(settings, host) {
    const { isExempt, isSpared } = clientPolicy(settings, host);
    function judge({ faults, isUnsure }: Looked, name: string): Gate {
      const why = `HELO '${name.slice(0, 100)}': ${faults.join(', ')}`;
      const [bad, later] = [settings.reject, settings.defer].map(list =>
        faults.find(fault => list.includes(fault as never)),
      );
      if (bad) return { kind: 'reject', reply: { code: 550, enhanced: '5.7.1', text: texts[bad] }, why };
      if (later) return { kind: 'defer', reply: { code: 450, enhanced: '4.7.1', text: texts[later] }, why };
      const matters = [...settings.reject, ...settings.defer].includes('unknown-host');
      return isUnsure && matters && settings.temperror === 'defer'
        ? { kind: 'defer', reply: unsure, why: 'DNS failure' }
        : pass;
    }
    return {
      async rcpt(at, to) {
        // LMTP and local tools greet as they like.
        if (at.session.role === 'lmtp' || isExempt(at)) return pass;
        const looked = await look(at, host);
        at.set(heloResult, looked.faults);
        if (looked.faults.length > 0 || looked.isUnsure) at.evidence({ helo: at.helo, faults: looked.faults });
        return isSpared(to) ? pass : judge(looked, at.helo);
      },
    };
  },
});
