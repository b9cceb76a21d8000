// The sentences of `postern why`, for each way in which a message ends.
import t from 'tap';
import { explainTrace } from '../../../core/mail/explain-trace.ts';
import type { TraceRecord, TraceStep } from '../../../core/mail/trace.ts';

const step = (plugin: string, hook: string, verdict: string, more: Partial<TraceStep> = {}): TraceStep => ({
  atMs: 1,
  plugin,
  hook,
  verdict,
  ms: 1,
  ...more,
});
const record = (outcome: string, steps: readonly TraceStep[], more: Partial<TraceRecord> = {}): TraceRecord => ({
  id: 'Q1',
  sessionId: 'S1',
  receivedAt: Date.parse('2026-11-21T07:41:43Z'),
  listener: 'smtp',
  client: { address: '192.0.2.1', port: 5, helo: 'mail.example.net' },
  sender: 'eve@example.net',
  size: 100,
  subject: 'Hello Bob',
  steps,
  recipients: [{ address: 'bob@example.org', outcome }],
  reply: '550 5.7.1 No',
  outcome,
  ms: 9,
  ...more,
});
const took = step('recipients', 'rcpt', 'accept');
const text = (...parts: Parameters<typeof explainTrace>): Record<string, string> =>
  Object.fromEntries(Object.entries(explainTrace(...parts)).map(([part, lines]) => [part, lines.join('\n')]));

t.test('a refusal: by whom, when, why, and what would have been', async t => {
  const said = text(
    record('rejected', [
      took,
      step('score', 'message', 'reject', {
        why: 'Sum 17 reaches reject',
        evidence: {
          total: 17,
          sum: ['+12 spam.points (rspamd)', '+5 dnsbl.listed'],
          wouldPass: 'Below 15 without any one of: +12 spam.points (rspamd)',
        },
      }),
    ]),
  );
  t.match(
    said['what'],
    /^A message from eve@example\.net to bob@example\.org came from 192\.0\.2\.1 \(mail\.example\.net\) at 2026-11-21 07:41:43 UTC\. Its subject is “Hello Bob”\.\nIt was refused for good/,
  );
  t.match(said['what'], /The client heard: 550 5\.7\.1 No$/);
  t.equal(said['because'], "The plugin 'score' refused it when the whole message was in: Sum 17 reaches reject.");
  t.match(said['otherwise'], /'score' added up 17 points: \+12 spam\.points \(rspamd\); \+5 dnsbl\.listed\./);
  t.match(said['otherwise'], /would have passed 'score': below 15 without any one of/);
  t.match(said['otherwise'], /plugins behind it, which were not asked; what they would have said is unknown/);
  const connect = text(
    record('rejected', [step('dnsbl', 'connect', 'reject', { why: 'Listed' })], { recipients: [], sender: '' }),
  );
  t.match(connect['what'], /^A message with the null sender/);
  t.match(connect['because'], /'dnsbl' refused it when the client connected: Listed\./);
});

t.test('a quarantine: the first mark decided, and the others would have too', async t => {
  const held = record('quarantined', [
    took,
    step('clamav', 'message', 'quarantine', { why: 'Found EICAR' }),
    step('rfc822', 'message', 'quarantine', { why: 'missing-date' }),
  ]);
  const said = text(held);
  t.match(said['because'], /'clamav' wanted it in the quarantine: Found EICAR\./);
  t.match(said['otherwise'], /would not have passed either: 'rfc822' said quarantine \(missing-date\)\./);
  t.match(said['besides'], /postern quarantine release Q1/);
  const alone = text({ ...held, steps: held.steps.slice(0, 2) });
  t.match(alone['otherwise'], /it would have been delivered: no other plugin objected/);
});

t.test('an engine that is down, one that was gone past, a trial run, slowness', async t => {
  const down = text(
    record('deferred', [took, step('clamav', 'message', 'error', { why: 'No answer within 30000 ms', ms: 30_000 })]),
  );
  t.match(down['what'], /tries again by itself/);
  t.match(
    down['because'],
    /'clamav' failed when the whole message was in: No answer within 30000 ms\. .*onError: defer/,
  );
  t.match(down['otherwise'], /With onError: continue for 'clamav'/);
  t.match(down['besides'], /'clamav' took 30\.0 s/);
  const passed = text(
    record(
      'accepted',
      [
        took,
        step('dnsbl', 'message', 'error', { why: 'SERVFAIL' }),
        step('rspamd', 'message', 'continue'),
        step('score', 'message', 'reject', { why: 'Sum 17', observed: true }),
      ],
      { recipients: [{ address: 'bob@example.org', outcome: 'delivered', detail: 'stored in mailbox' }] },
    ),
    [{ at: Date.parse('2026-11-21T08:00:00Z'), address: 'bob@example.org', outcome: 'released', detail: 'as Q2' }],
  );
  t.match(
    passed['because'],
    /'recipients' accepted the recipients\.\nThe plugins dnsbl and rspamd looked at the message/,
  );
  t.equal(passed['otherwise'], '');
  t.match(
    passed['besides'],
    /'score' only observes\. In mode: enforce it would have refused it for good when the whole message was in: Sum 17\./,
  );
  t.match(passed['besides'], /'dnsbl' failed .*: SERVFAIL\. The mail went on without it\./);
  t.match(passed['besides'], /bob@example\.org: delivered \(stored in mailbox\)/);
  t.match(passed['besides'], /At 2026-11-21 08:00:00 UTC bob@example\.org: released \(as Q2\)\./);
});

t.test('nobody accepts, delivery fails, the client leaves', async t => {
  const nobody = text(
    record('rejected', [step('relay-policy', 'rcpt', 'continue')], {
      recipients: [
        { address: 'x@other.example', outcome: 'rejected', detail: '550 5.7.1 Recipient not accepted here' },
      ],
    }),
  );
  t.match(nobody['because'], /No plugin accepted the recipient/);
  t.match(nobody['otherwise'], /a mailbox or alias of that name/);
  const full = text(
    record('deferred', [took, step('rspamd', 'message', 'continue')], {
      recipients: [{ address: 'bob@example.org', outcome: 'deferred', detail: 'over quota' }],
    }),
  );
  t.equal(full['because'], 'No plugin objected; it was the delivery that failed.\nFor bob@example.org: over quota.');
  t.match(text(record('aborted', []))['because'], /The connection ended/);
  t.match(
    text(record('discarded', [took, step('milter', 'message', 'discard', { why: 'said so' })]))['because'],
    /'milter' threw it away: said so\./,
  );
  const single = text(
    record(
      'accepted',
      [took, step('recipients', 'rcpt', 'reject', { why: 'No such user' }), step('rspamd', 'message', 'continue')],
      {
        recipients: [
          { address: 'bob@example.org', outcome: 'delivered' },
          { address: 'nobody@example.org', outcome: 'rejected', detail: '550 5.1.1 No such user' },
        ],
      },
    ),
  );
  t.match(single['besides'], /nobody@example\.org: rejected \(550 5\.1\.1 No such user\)/);
});
