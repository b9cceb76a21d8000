// Who sent this? SPF at MAIL FROM; DKIM, ARC and DMARC when the message is there. Mail of our own users and networks is
// not checked, but nobody, inside or outside, may hand in Authentication-Results in our name (RFC 8601 §5). What the DNS
// does not say is never held against a sender for good: it is 451, or passes.
import {
  cidrSet,
  claimedAuthResults,
  defer,
  definePlugin,
  type Edit,
  formatAuthResults,
  type Gate,
  type Greeted,
  type Host,
  type InMail,
  type MessageAnswer,
  parseDomain,
  pass,
  quarantine,
  reject,
  reply,
  startDeadline,
  type WithMessage,
} from '../../core/plugin/index.ts';
import { ownResultFields } from '../auth/results.ts';
import { type Findings, resultLines } from './auth-results.ts';
import { judgeDmarc } from './dmarc.ts';
import { verifySignatures, verifySpf } from './mailauth.ts';
import { type MailAuthOptions, options } from './options.ts';
import { type CheckResolver, createResolver } from './resolver.ts';
import { arc, authResults, dkim, dmarc, type SpfResult, spf, spfHelo } from './results.ts';

// RFC 7372 §3.2, §3.3.
const spfRefused = reply(550, '5.7.23', 'SPF validation failed');
const spfBroken = reply(550, '5.7.24', 'SPF validation error');
const spfLater = reply(451, '4.7.24', 'SPF validation error, try again later');
const dmarcRefused = reply(550, '5.7.26', 'Refused by the policy of the domain in the From field');
const dmarcLater = reply(451, '4.7.26', 'Sender cannot be verified now, try again later');

function createChecker(settings: MailAuthOptions, host: Host) {
  const exempt = cidrSet(settings.exempt);
  const ids = [settings.authservId ?? host.hostname, ...settings.ownIds];

  /** Ours, or handed to us by somebody whose address says nothing about the sender. */
  const isExempt = (at: Greeted): boolean => {
    const { role, remote } = at.session;
    return (
      role !== 'smtp' || at.identity !== undefined || exempt.has(remote.address) || host.isRelayClient(remote.address)
    );
  };

  async function inTime<T>(
    at: Greeted,
    work: (resolver: CheckResolver, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const deadline = startDeadline(host.clock, settings.checkTimeout, at.signal);
    try {
      return await work(createResolver(host.dns, deadline.signal), deadline.signal);
    } finally {
      deadline.done();
    }
  }

  function spfQuestion(at: InMail, sender: string, identity: SpfResult['identity']) {
    const { maxVoidLookups } = settings.spf;
    const { address } = at.session.remote;
    return { sender, identity, clientAddress: address, helo: at.helo, hostname: host.hostname, maxVoidLookups };
  }

  /** RFC 7208 §2.3: only a name that can be looked up is checked; any other leaves the decision to MAIL FROM. */
  const heloName = (at: InMail): string | undefined => {
    const name = at.helo.startsWith('[') ? undefined : parseDomain(at.helo.replace(/\.$/, ''));
    return name?.includes('.') ? name : undefined;
  };

  async function checkSpf(at: InMail, resolver: CheckResolver) {
    const { sender } = at.envelope;
    const name = heloName(at);
    const helo = () => verifySpf(spfQuestion(at, `postmaster@${name}`, 'helo'), resolver);
    if (sender) {
      return Promise.all([
        verifySpf(spfQuestion(at, sender.text, 'mailfrom'), resolver),
        settings.spf.helo === 'off' || name === undefined ? undefined : helo(),
      ]);
    }
    const missing: SpfResult = { result: 'none', identity: 'helo', domain: '', why: 'no name to check' };
    return [name === undefined ? missing : await helo(), undefined] as const;
  }

  const spfAction = (found: SpfResult): 'mark' | 'quarantine' | 'reject' => {
    const { fail, softfail, permerror } = settings.spf;
    if (found.result === 'fail') return fail;
    if (found.result === 'softfail') return softfail;
    return found.result === 'permerror' ? permerror : 'mark';
  };
  const said = (found: SpfResult): string => `SPF ${found.result} of ${found.domain}${found.why && `: ${found.why}`}`;

  function judgeSpf(found: SpfResult, helo: SpfResult | undefined): Gate {
    const refusesAny = [settings.spf.fail, settings.spf.softfail, settings.spf.permerror].some(
      action => action === 'reject',
    );
    const undecided =
      (found.result === 'temperror' && refusesAny) || (helo?.result === 'temperror' && settings.spf.helo === 'reject');
    if (helo?.result === 'fail' && settings.spf.helo === 'reject') return reject(spfRefused, said(helo));
    if (spfAction(found) === 'reject')
      return reject(found.result === 'permerror' ? spfBroken : spfRefused, said(found));
    if (undecided && settings.temperror === 'defer') return defer(spfLater, `SPF of ${found.domain}: DNS failure`);
    return pass;
  }

  async function mail(at: InMail): Promise<Gate> {
    const [found, helo] = await inTime(at, resolver => checkSpf(at, resolver));
    at.set(spf, found);
    if (helo) at.set(spfHelo, helo);
    at.evidence({ spf: said(found), ...(helo ? { helo: said(helo) } : {}) });
    return judgeSpf(found, helo);
  }

  const forged = (at: WithMessage): readonly Edit[] => {
    const { headers } = at.message;
    if (!headers.has('authentication-results')) return [];
    const claimed = new Set(ids.flatMap(id => claimedAuthResults(headers, id)));
    const own = at.get(ownResultFields) ?? 0;
    return [...claimed]
      .filter(index => index >= own)
      .map(index => ({ kind: 'remove-header', name: 'Authentication-Results', index }));
  };

  async function findOut(at: WithMessage, resolver: CheckResolver, signal: AbortSignal): Promise<Findings> {
    const now = new Date(host.clock.now());
    const signatures = await verifySignatures(at.message, { ...settings.dkim, now }, resolver, signal);
    const found = at.get(spf);
    const question = { message: at.message, id: at.id, spf: found, signatures };
    return {
      spf: found,
      helo: at.get(spfHelo),
      dkim: signatures.dkim,
      arc: signatures.arc,
      dmarc: await judgeDmarc(question, settings, resolver),
    };
  }

  function judge(found: Findings): MessageAnswer {
    const { dmarc: result } = found;
    const why = `DMARC ${result.result} of ${result.domain}, policy ${result.policy ?? 'none'}`;
    if (result.disposition === 'reject' && settings.dmarc.reject === 'reject') return reject(dmarcRefused, why);
    if (result.disposition !== 'none') return quarantine(why, 'forged');
    const undecided = result.result === 'temperror' && result.policy !== 'none' && settings.dmarc.policy === 'apply';
    if (undecided && settings.temperror === 'defer') return defer(dmarcLater, `${why}: ${result.why ?? ''}`);
    if (found.spf && spfAction(found.spf) === 'quarantine') return quarantine(said(found.spf), 'forged');
    return pass;
  }

  /** The sender's own domain says that this is not from there: whoever is named as sender must not be told of failures. */
  function isForged(at: WithMessage, { spf: found, dkim: signatures, dmarc: result }: Findings): boolean {
    const domain = at.envelope.sender?.domain;
    const signed = signatures.some(each => each.result === 'pass' && each.domain === domain);
    return (found?.result === 'fail' && !signed) || result.disposition !== 'none';
  }

  async function message(at: WithMessage): Promise<MessageAnswer> {
    const removed = forged(at);
    if (removed.length > 0) at.evidence({ forgedResults: removed.length });
    if (isExempt(at)) return { ...pass, edits: removed };
    const found = await inTime(at, (resolver, signal) => findOut(at, resolver, signal));
    const lines = resultLines(found, at.session.remote.address);
    at.set(dkim, found.dkim);
    at.set(arc, found.arc);
    at.set(dmarc, found.dmarc);
    at.set(authResults, lines);
    at.evidence({
      dkim: found.dkim.map(({ result, domain, why }) => `${result} ${domain}${why ? ` (${why})` : ''}`),
      ...(found.arc.result === 'none' ? {} : { arc: found.arc }),
      dmarc: found.dmarc,
    });
    const value = formatAuthResults(ids[0] ?? host.hostname, lines);
    const added: readonly Edit[] = settings.header
      ? [{ kind: 'add-header', name: 'Authentication-Results', value }]
      : [];
    const mark: readonly Edit[] = isForged(at, found) ? [{ kind: 'mark-forged' }] : [];
    return { ...judge(found), edits: [...removed, ...added, ...mark] };
  }

  return { mail: (at: InMail) => (isExempt(at) ? pass : mail(at)), message };
}

export const mailAuth = definePlugin({
  name: 'mail-auth',
  doc: 'Verifies senders by SPF, DKIM, ARC and DMARC, does what the author’s domain asks for, and writes Authentication-Results.',
  options,
  writes: [spf, spfHelo, dkim, arc, dmarc, authResults],
  setup: createChecker,
});
