// PowerShell for the Exchange behind the gateway, and what takes it back. Exchange deletes X-MS-Exchange-Organization-*
// fields that come from anonymous servers, so the verdict travels in X-Spam-Flag and a transport rule turns it into the
// SCL that Outlook acts on. Everything is found again by its name, so a second run changes nothing.
import type { Answers } from './answers.ts';

export interface Script {
  readonly name: string;
  readonly text: string;
}

/** A PowerShell string without expansion. */
const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
const list = (values: readonly string[]): string => `@(${values.map(text).join(', ')})`;

const names = {
  receive: 'Postern inbound',
  send: 'Postern outbound',
  junk: 'Postern: spam to the junk folder',
  sure: 'Postern: certain spam',
  inbound: 'Postern inbound',
} as const;

const rules = [
  '# What Postern takes for spam goes to the junk folder (SCL 6), what it is sure of gets SCL 9.',
  `if (-not (Get-TransportRule -Identity ${text(names.junk)} -ErrorAction SilentlyContinue)) {`,
  `  New-TransportRule -Name ${text(names.junk)} -FromScope NotInOrganization \``,
  "    -HeaderMatchesMessageHeader 'X-Spam-Flag' -HeaderMatchesPatterns '^YES' -SetSCL 6 `",
  "    -Comments 'Made by postern setup'",
  '}',
  `if (-not (Get-TransportRule -Identity ${text(names.sure)} -ErrorAction SilentlyContinue)) {`,
  `  New-TransportRule -Name ${text(names.sure)} -FromScope NotInOrganization \``,
  "    -HeaderMatchesMessageHeader 'X-Postern-Score' -HeaderMatchesPatterns '^[1-9][0-9]' -SetSCL 9 `",
  "    -Comments 'Made by postern setup'",
  '}',
];
const undoRules = [names.junk, names.sure].map(
  name =>
    `Get-TransportRule -Identity ${text(name)} -ErrorAction SilentlyContinue | Remove-TransportRule -Confirm:$false`,
);

function onPremises(answers: Answers): readonly Script[] {
  const gateway = answers.addresses;
  const port = answers.outboundPort;
  const install = [
    '# Exchange behind Postern. Run in the Exchange Management Shell on the server that takes the mail; exchange-undo.ps1',
    '# takes it back. Of what exists only the validation of recipients is changed: it is turned on.',
    "$ErrorActionPreference = 'Stop'",
    '$server = $env:COMPUTERNAME',
    `$gateway = ${list(gateway)}`,
    '',
    '# Mail from the gateway: a connector for its addresses alone, which leaves all header fields as they are.',
    `if (-not (Get-ReceiveConnector -Server $server | Where-Object { $_.Name -eq ${text(names.receive)} })) {`,
    `  New-ReceiveConnector -Name ${text(names.receive)} -Server $server -TransportRole FrontendTransport -Usage Custom \``,
    "    -Bindings '0.0.0.0:25' -RemoteIPRanges $gateway -PermissionGroups AnonymousUsers -AuthMechanism Tls `",
    '    -MessageRateLimit Unlimited -MaxInboundConnectionPerSource Unlimited -MaxInboundConnection Unlimited `',
    "    -TarpitInterval '00:00:00' -ProtocolLoggingLevel Verbose",
    `  Get-ReceiveConnector "$server\\${names.receive}" | Add-ADPermission -User 'NT AUTHORITY\\ANONYMOUS LOGON' \``,
    "    -ExtendedRights 'ms-Exch-SMTP-Accept-Authoritative-Domain-Sender', 'ms-Exch-Accept-Headers-Routing' | Out-Null",
    '}',
    '',
    '# Unknown recipients are refused in the session, so that the gateway can refuse them to the real sender.',
    'Set-RecipientFilterConfig -Enabled $true -RecipientValidationEnabled $true -ErrorAction SilentlyContinue',
    ...answers.domains.map(
      domain => `Set-AcceptedDomain -Identity ${text(domain)} -AddressBookEnabled $true -ErrorAction SilentlyContinue`,
    ),
    '',
    ...rules,
  ];
  const undo = [
    '# Takes back what exchange-install.ps1 made.',
    "$ErrorActionPreference = 'Stop'",
    '$server = $env:COMPUTERNAME',
  ];
  if (port !== undefined) {
    install.push(
      '',
      '# Outgoing mail through the gateway. Connectors that you have stay; this one wins by its cost.',
      `if (-not (Get-SendConnector -Identity ${text(names.send)} -ErrorAction SilentlyContinue)) {`,
      `  New-SendConnector -Name ${text(names.send)} -Usage Custom -AddressSpaces 'SMTP:*;1' -DNSRoutingEnabled $false \``,
      `    -SmartHosts ${text(answers.hostname)} -Port ${port} -SmartHostAuthMechanism None -SourceTransportServers $server \``,
      '    -ProtocolLoggingLevel Verbose',
      '}',
    );
    undo.push(
      `Get-SendConnector -Identity ${text(names.send)} -ErrorAction SilentlyContinue | Remove-SendConnector -Confirm:$false`,
    );
  }
  undo.push(
    ...undoRules,
    `Get-ReceiveConnector -Server $server | Where-Object { $_.Name -eq ${text(names.receive)} } | Remove-ReceiveConnector -Confirm:$false`,
    '# Recipient validation stays on: turning it off would bring backscatter.',
  );
  return [
    { name: 'exchange-install.ps1', text: crlf(install) },
    { name: 'exchange-undo.ps1', text: crlf(undo) },
  ];
}

function online(answers: Answers): readonly Script[] {
  const install = [
    '# Microsoft 365 behind Postern. Run in Exchange Online PowerShell (Connect-ExchangeOnline); exchange-undo.ps1 takes',
    '# everything back. Nothing that exists is changed.',
    "$ErrorActionPreference = 'Stop'",
    `$gateway = ${list(answers.addresses)}`,
    '',
    '# Mail is taken from the gateway alone: who delivers past it is refused.',
    `if (-not (Get-InboundConnector -Identity ${text(names.inbound)} -ErrorAction SilentlyContinue)) {`,
    `  New-InboundConnector -Name ${text(names.inbound)} -ConnectorType Partner -SenderDomains '*' -RequireTls $true \``,
    '    -RestrictDomainsToIPAddresses $true -SenderIPAddresses $gateway',
    '}',
    '# Enhanced filtering: the checks of Microsoft 365 look at who came to the gateway, not at the gateway.',
    `Set-InboundConnector -Identity ${text(names.inbound)} -EFSkipLastIP $true`,
    '',
    ...rules,
  ];
  const undo = [
    '# Takes back what exchange-install.ps1 made.',
    "$ErrorActionPreference = 'Stop'",
    ...undoRules,
    `Get-InboundConnector -Identity ${text(names.inbound)} -ErrorAction SilentlyContinue | Remove-InboundConnector -Confirm:$false`,
  ];
  return [
    { name: 'exchange-install.ps1', text: crlf(install) },
    { name: 'exchange-undo.ps1', text: crlf(undo) },
  ];
}

const crlf = (lines: readonly string[]): string => `${lines.join('\r\n')}\r\n`;

/** Empty where there is no Exchange. */
export function exchangeScripts(answers: Answers): readonly Script[] {
  if (answers.kind === 'exchange') return onPremises(answers);
  return answers.kind === 'microsoft365' ? online(answers) : [];
}
