// Cost per message of a script of 20 rules, the shape a careful user's script has:
//   node build/bench/sieve.js [messages]
// CPU time of compile once, then run and execute per message, against ports in memory. Aim: less than 0.4 ms a message.
import { compile, execute, run, standardRegistry } from '../core/sieve/index.ts';
import { memoryHost } from '../test/harness/sieve-host.ts';

const topics = [
  ...['Quarterly report', 'Invoice', 'Meeting notes', 'Travel plan'],
  ...['Server maintenance', 'Order confirmation', 'Contract draft', 'Release plan'],
];

function twentyRules(): string {
  const rules = topics.map(
    (topic, at) => `if header :contains "Subject" "${topic}" { addflag "$r${at}"; fileinto :create "T${at}"; stop; }`,
  );
  for (let at = 0; at < 4; at += 1)
    rules.push(
      `if address :is "From" ["x${at}@example.org","y${at}@example.org","z${at}@example.org"] { fileinto :create "P${at}"; stop; }`,
    );
  for (let at = 0; at < 4; at += 1)
    rules.push(
      `if allof (header :matches "List-Id" "*list${at}*", not header :contains "X-Spam" "YES") { fileinto :create "L${at}"; stop; }`,
    );
  return [
    'require ["fileinto","envelope","mailbox","imap4flags","body","variables"];',
    ...rules,
    'if size :over 25K { addflag "$big"; }',
    'if header :matches "Subject" ["*urgent*","*asap*"] { addflag "\\\\Flagged"; }',
    'if exists "X-Mailer" { set "m" "x"; }',
    'if envelope :contains "from" "nobody@" { discard; stop; }',
  ].join('\n');
}

function message(at: number): string {
  const subject = at % 3 === 0 ? `${topics[at % topics.length]} ${at}` : `Something else number ${at}`;
  const trace = Array.from(
    { length: 4 },
    (_, hop) => `Received: from host${hop}.example.net by mx${hop}.example.org; Tue, 10 Mar 2026 12:00:0${hop} +0000`,
  );
  const list = at % 5 === 0 ? [`List-Id: <list${at % 4}.example.org>`] : [];
  const head = [
    ...trace,
    `From: Sender ${at} <s${at}@example.org>`,
    'To: user@bench.local',
    `Subject: ${subject}`,
    ...list,
  ];
  return [...head, 'MIME-Version: 1.0', 'Content-Type: text/plain', '', 'word '.repeat(600 + (at % 50) * 40), ''].join(
    '\r\n',
  );
}

const count = 3000;
const compiled = compile(twentyRules(), { registry: standardRegistry() });
if (!compiled.ok) throw new Error(JSON.stringify(compiled.diagnostics));
const { program } = compiled;
const hosts = Array.from({ length: count }, (_, at) => memoryHost({ message: message(at) }));

async function measure(withExecute: boolean): Promise<number> {
  const began = process.cpuUsage();
  for (const host of hosts) {
    const result = await run(program, host);
    if (result.status !== 'ok') throw new Error(JSON.stringify(result.diagnostics));
    if (withExecute) await execute(result, host);
  }
  const used = process.cpuUsage(began);
  return (used.user + used.system) / 1000 / count;
}

await measure(false);
console.log(`run:           ${(await measure(false)).toFixed(4)} ms CPU per message`);
console.log(`run + execute: ${(await measure(true)).toFixed(4)} ms CPU per message`);
const trials = 50;
const began = process.cpuUsage();
for (let at = 0; at < trials; at += 1) compile(twentyRules(), { registry: program.registry });
const used = process.cpuUsage(began);
console.log(`compile:       ${((used.user + used.system) / 1000 / trials).toFixed(3)} ms CPU per script`);
