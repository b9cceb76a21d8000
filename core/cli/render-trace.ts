// A trace as people read it: who sent what to whom, every hook that ran with verdict, reason and milliseconds, and what
// became of each recipient. The same text serves `postern trace` and the live view of `postern start`.
import { stripVTControlCharacters, styleText } from 'node:util';
import { allSteps, type TraceRecord, type TraceStep } from '../mail/trace.ts';

type Style = Parameters<typeof styleText>[0];

const verdictStyles: Readonly<Record<string, Style>> = {
  accept: 'green',
  accepted: 'green',
  delivered: 'green',
  relayed: 'green',
  continue: 'dim',
  queued: 'yellow',
  quarantine: 'yellow',
  quarantined: 'yellow',
  defer: 'yellow',
  deferred: 'yellow',
  reject: 'red',
  rejected: 'red',
  error: 'red',
  discard: 'magenta',
  discarded: 'magenta',
};

/** Control characters of hostile input never reach the terminal. */
export const printable = (text: string): string =>
  stripVTControlCharacters(text).replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd');

function evidenceText(step: TraceStep): string {
  const entries = Object.entries(step.evidence ?? {});
  return entries.length === 0
    ? ''
    : ` {${entries.map(([key, value]) => `${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`).join(', ')}}`;
}

export function renderTrace(trace: TraceRecord, color: boolean): string {
  const paint = (style: Style | undefined, text: string): string =>
    color && style !== undefined ? styleText(style, text) : text;
  const { client } = trace;
  const facts = [client.tls ? `TLS ${client.tls}` : 'no TLS', ...(client.identity ? [`user ${client.identity}`] : [])];
  const lines = [
    `${paint('bold', trace.id)}  ${new Date(trace.receivedAt).toISOString()}  ${paint(verdictStyles[trace.outcome], trace.outcome)}  ${trace.size} bytes  ${trace.ms.toFixed(1)} ms`,
    `  from ${printable(trace.sender === '' ? '<>' : trace.sender)} by ${printable(client.address)} (${printable(client.helo)}) on ${trace.listener}, ${printable(facts.join(', '))}`,
    ...(trace.subject === undefined ? [] : [`  subject ${printable(trace.subject)}`]),
  ];
  const pluginWidth = Math.max(6, ...allSteps(trace).map(step => step.plugin.length));
  const stepLine = (step: TraceStep): string => {
    const why = `${step.observed ? '(observes only) ' : ''}${step.why ?? ''}${evidenceText(step)}`.trim();
    return `  ${step.hook.padEnd(8)}${step.plugin.padEnd(pluginWidth)}  ${paint(verdictStyles[step.verdict], step.verdict.padEnd(10))} ${`${step.ms.toFixed(2)} ms`.padStart(10)}${why === '' ? '' : `  ${printable(why)}`}`;
  };
  lines.push(...trace.steps.map(stepLine));
  for (const recipient of trace.recipients) {
    lines.push(...(recipient.steps ?? []).map(stepLine));
    lines.push(
      `  to ${printable(recipient.address)}: ${paint(verdictStyles[recipient.outcome], recipient.outcome)}${recipient.detail ? ` (${printable(recipient.detail)})` : ''}`,
    );
  }
  lines.push(`  reply ${printable(trace.reply)}`);
  return lines.join('\n');
}
