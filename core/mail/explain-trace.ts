// A trace in sentences: what became of a message, what decided that, and what would have changed it. For an administrator
// with somebody on the telephone. Only what the record holds is said; what nobody tried is called unknown.
import { allSteps, type TraceEvent, type TraceRecipient, type TraceRecord, type TraceStep } from './trace.ts';

export interface Explanation {
  /** Who sent what to whom, and what became of it. */
  readonly what: readonly string[];
  /** What decided. */
  readonly because: readonly string[];
  /** What would have led to another end. */
  readonly otherwise: readonly string[];
  /** What else is worth knowing: trial runs, failures, slowness, later events. */
  readonly besides: readonly string[];
}

const deciding: ReadonlySet<string> = new Set(['reject', 'defer', 'quarantine', 'discard', 'error']);
const stages: Readonly<Record<string, string>> = {
  connect: 'when the client connected',
  helo: 'at HELO',
  auth: 'at AUTH',
  mail: 'at MAIL FROM',
  rcpt: 'at RCPT TO',
  message: 'when the whole message was in',
  deliver: 'at delivery',
};
/** A hook that took longer is worth a sentence. */
const slowMs = 5_000;

const named = (step: TraceStep): string => `The plugin '${step.plugin}'`;
const at = (step: TraceStep): string => stages[step.hook] ?? `in the hook '${step.hook}'`;
const reasonOf = (step: TraceStep): string => (step.why ? `: ${sentence(step.why)}` : '.');
/** Ends with a full stop, once. */
const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);
const list = (items: readonly string[]): string =>
  items.length < 2 ? (items[0] ?? '') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;
const unique = (items: readonly string[]): readonly string[] => [...new Set(items)];
const moment = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;

const afterIn = ({ hook }: TraceStep): boolean => hook === 'message' || hook === 'deliver';

/** The step that settled the message's end; undefined where no plugin did. */
export function decisiveStep(record: TraceRecord): TraceStep | undefined {
  // Once the message was in, refusals of single recipients before that did not decide.
  const ran = allSteps(record);
  const wasIn = ran.some(afterIn);
  const steps = ran.filter(step => !step.observed && deciding.has(step.verdict) && (!wasIn || afterIn(step)));
  switch (record.outcome) {
    case 'rejected':
      return steps.findLast(step => step.verdict === 'reject');
    case 'deferred':
      return steps.findLast(step => step.verdict === 'defer') ?? steps.findLast(step => step.verdict === 'error');
    case 'discarded':
      return steps.findLast(step => step.verdict === 'discard');
    case 'quarantined':
      return steps.find(step => step.verdict === 'quarantine');
    default:
      return undefined;
  }
}

const endings: Readonly<Record<string, string>> = {
  accepted: 'It was accepted.',
  rejected: 'It was refused for good, so the sender’s server returned it to the sender.',
  deferred: 'It was refused for the time being; the sender’s server tries again by itself, usually for some days.',
  quarantined: 'It was accepted and put into the quarantine; neither sender nor recipients were told.',
  discarded: 'It was accepted and thrown away; neither sender nor recipients were told.',
  aborted: 'The client went away before the message was settled.',
};

function whatHappened(record: TraceRecord): readonly string[] {
  const { client } = record;
  const who =
    record.sender === ''
      ? 'A message with the null sender (a report or an automatic reply)'
      : `A message from ${record.sender}`;
  const to = unique(record.recipients.map(({ address }) => address));
  const whom = to.length === 0 ? '' : to.length > 5 ? ` to ${to.length} recipients` : ` to ${list(to)}`;
  const login = client.identity === undefined ? '' : `, logged in as ${client.identity}`;
  const helo = client.helo === '' ? '' : ` (${client.helo})`;
  const from =
    client.address === 'local'
      ? ` was made by this gateway (${record.listener})`
      : ` came from ${client.address}${helo}${login}`;
  const subject = record.subject === undefined ? '' : ` Its subject is “${record.subject}”.`;
  return [
    `${who}${whom}${from} at ${moment(record.receivedAt)}.${subject}`,
    endings[record.outcome] ?? `It ended as '${record.outcome}'.`,
    ...(record.reply === '' ? [] : [`The client heard: ${record.reply}`]),
  ];
}

function becauseOfStep(step: TraceStep): string {
  const who = named(step);
  switch (step.verdict) {
    case 'reject':
      return `${who} refused it ${at(step)}${reasonOf(step)}`;
    case 'defer':
      return `${who} asked the client to come back later, ${at(step)}${reasonOf(step)}`;
    case 'quarantine':
      return `${who} wanted it in the quarantine${reasonOf(step)}`;
    case 'discard':
      return `${who} threw it away${reasonOf(step)}`;
    default:
      return `${who} failed ${at(step)}${reasonOf(step)} An entry that fails defers the mail (onError: defer), so that nothing passes unseen.`;
  }
}

/** Recipients whose own end differs from that of the message. */
const refused = (recipients: readonly TraceRecipient[]): readonly TraceRecipient[] =>
  recipients.filter(({ outcome }) => outcome === 'rejected' || outcome === 'deferred');

function because(record: TraceRecord): readonly string[] {
  const step = decisiveStep(record);
  if (step) return [becauseOfStep(step)];
  switch (record.outcome) {
    case 'accepted': {
      const asked = unique(
        record.steps.filter(each => !each.observed && each.hook === 'message').map(each => each.plugin),
      );
      const took = unique(
        record.steps.filter(each => each.hook === 'rcpt' && each.verdict === 'accept').map(each => each.plugin),
      );
      return [
        ...(took.length === 0
          ? []
          : [
              `${took.length === 1 ? `The plugin '${took[0]}'` : `The plugins ${list(took)}`} accepted the recipients.`,
            ]),
        asked.length === 0
          ? 'No plugin of the chain looked at the message itself.'
          : `${asked.length === 1 ? `The plugin '${asked[0]}'` : `The plugins ${list(asked)}`} looked at the message, and none of them objected.`,
      ];
    }
    case 'rejected':
    case 'deferred': {
      const delivery = refused(record.recipients).filter(({ detail }) => detail !== undefined);
      if (
        record.steps.some(each => each.hook === 'message') ||
        delivery.some(({ detail }) => !/^[45]\d\d /.test(detail ?? ''))
      )
        return [
          'No plugin objected; it was the delivery that failed.',
          ...delivery.map(({ address, detail }) => `For ${address}: ${sentence(detail ?? '')}`),
        ];
      return [
        'No plugin accepted the recipient, and mail that nobody accepts is refused (so this gateway is no open relay).',
      ];
    }
    case 'aborted':
      return ['The connection ended, or the client reset the transaction, before the last reply.'];
    default:
      return ['The record does not say what decided.'];
  }
}

/** A sentence by the plugin itself about what would have let the message through. */
const wouldPass = (step: TraceStep): string | undefined => {
  const said = step.evidence?.['wouldPass'];
  return typeof said === 'string' && said !== '' ? said : undefined;
};

function sum(step: TraceStep): readonly string[] {
  const lines = step.evidence?.['sum'];
  const total = step.evidence?.['total'];
  if (!Array.isArray(lines) || lines.length === 0) return [];
  return [`'${step.plugin}' added up ${String(total)} points: ${lines.map(String).join('; ')}.`];
}

function otherwise(record: TraceRecord): readonly string[] {
  const step = decisiveStep(record);
  if (!step) {
    if (record.outcome === 'rejected' && !record.steps.some(each => each.hook === 'message'))
      return ['An entry that accepts the recipient: a mailbox or alias of that name, or the right to relay.'];
    return [];
  }
  const said: string[] = [...sum(step)];
  const own = wouldPass(step);
  if (own) said.push(`It would have passed '${step.plugin}': ${sentence(own.charAt(0).toLowerCase() + own.slice(1))}`);
  if (step.verdict === 'error') {
    said.push(`If '${step.plugin}' had answered in time and without an error, its verdict would have counted.`);
    said.push(`With onError: continue for '${step.plugin}' the message would have gone on without it.`);
    return said;
  }
  const others = allSteps(record).filter(
    each =>
      each !== step &&
      !each.observed &&
      each.plugin !== step.plugin &&
      deciding.has(each.verdict) &&
      each.verdict !== 'error',
  );
  const alone = `Without the verdict of '${step.plugin}' (mode: observe, or an exception in its options)`;
  if (others.length > 0)
    said.push(
      `${alone} it would not have passed either: ${list(unique(others.map(each => `'${each.plugin}' said ${each.verdict}${each.why ? ` (${each.why})` : ''}`)))}.`,
    );
  else if (step.verdict === 'quarantine') said.push(`${alone} it would have been delivered: no other plugin objected.`);
  else
    said.push(
      `${alone} it would have gone on to the plugins behind it, which were not asked; what they would have said is unknown.`,
    );
  return said;
}

const wouldHave: Readonly<Record<string, string>> = {
  reject: 'refused it for good',
  defer: 'asked the client to come back later',
  quarantine: 'put it into the quarantine',
  discard: 'thrown it away',
  error: 'failed',
};

function besides(record: TraceRecord, events: readonly TraceEvent[]): readonly string[] {
  const step = decisiveStep(record);
  const trial = allSteps(record)
    .filter(each => each.observed && deciding.has(each.verdict))
    .map(
      each =>
        `'${each.plugin}' only observes. In mode: enforce it would have ${wouldHave[each.verdict]} ${at(each)}${reasonOf(each)}`,
    );
  const failed = allSteps(record)
    .filter(each => each !== step && !each.observed && each.verdict === 'error')
    .map(each => `${named(each)} failed ${at(each)}${reasonOf(each)} The mail went on without it.`);
  const slow = allSteps(record)
    .filter(each => each.ms >= slowMs)
    .map(each => `${named(each)} took ${(each.ms / 1000).toFixed(1)} s ${at(each)}.`);
  const ends =
    record.outcome === 'accepted' || events.length > 0
      ? record.recipients.map(
          ({ address, outcome, detail }) => `${address}: ${outcome}${detail ? ` (${detail})` : ''}.`,
        )
      : [];
  const single =
    record.outcome === 'accepted'
      ? []
      : refused(record.recipients).length < record.recipients.length
        ? refused(record.recipients)
        : [];
  const quarantine =
    record.outcome === 'quarantined'
      ? [`'postern quarantine show ${record.id}' shows it, 'postern quarantine release ${record.id}' delivers it.`]
      : [];
  const later = events.map(
    event => `At ${moment(event.at)} ${event.address}: ${event.outcome}${event.detail ? ` (${event.detail})` : ''}.`,
  );
  return [
    ...trial,
    ...failed,
    ...slow,
    ...single.map(({ address, outcome, detail }) => `${address} was ${outcome}${detail ? ` (${detail})` : ''}.`),
    ...ends,
    ...later,
    ...quarantine,
  ];
}

export const explainTrace = (record: TraceRecord, events: readonly TraceEvent[] = []): Explanation => ({
  what: whatHappened(record),
  because: because(record),
  otherwise: otherwise(record),
  besides: besides(record, events),
});
