// A script of 20 rules, the shape a careful user's script has, and messages that some of them are for.

const topics = [
  ...['Quarterly report', 'Invoice', 'Meeting notes', 'Travel plan'],
  ...['Server maintenance', 'Order confirmation', 'Contract draft', 'Release plan'],
];

export function twentyRules(): string {
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

export function ruleMessage(at: number): string {
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
