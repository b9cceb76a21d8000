// Test messages both ways through the running gateway: what must arrive arrives, what must not is refused. The mail goes to
// one address of ours and, outwards, to one that the administrator names; each message says that it is a test.
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import { maildropFolder, originOf } from '../compose/maildrop.ts';
import { openTraces } from '../compose/stores.ts';
import { readChain } from '../config/chain-entry.ts';
import type { ListenerOptions } from '../config/gateway-options.ts';
import type { LoadedConfig } from '../config/load.ts';
import { dropMail, ensureMaildrop } from '../intake/maildrop-writer.ts';
import { cidrSet } from '../lib/cidr.ts';
import type { Clock } from '../lib/clock.ts';
import { WireClient } from '../lib/wire-client.ts';
import { makeAddress, parseMailbox } from '../mail/address.ts';
import { formatDate } from '../mail/date.ts';
import type { TraceRecord } from '../mail/trace.ts';
import { command, type Reply, reply } from '../setup/smtp-talk.ts';
import { type Finding, findings } from './finding.ts';

export interface LiveOptions {
  /** A mailbox behind the gateway. */
  readonly to: string;
  /** An address in the world that answers or is read by the administrator. */
  readonly outside?: string;
}

interface Parts {
  readonly config: LoadedConfig;
  readonly hostname: string;
  readonly listener: ListenerOptions;
  readonly clock: Clock;
  readonly log: Logger;
}

// Test patterns that every engine knows and that harm nobody; in parts, so that no scanner takes this file for one.
const gtube = ['XJS*C4JDBQADN1.NSBN3*2IDNEN*', 'GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL', '*C.34X'].join('');
const eicar = ['X5O!P%@AP[4\\PZX54(P^)7CC)7}$', 'EICAR-STANDARD-ANTIVIRUS-TEST-FILE', '!$H+H*'].join('');

/** One session, from greeting to the reply that matters: RCPT, or the end of the data where there are any. */
async function send(
  { hostname, listener, clock }: Parts,
  mail: { readonly from: string; readonly to: string; readonly body?: string },
): Promise<Reply> {
  const host = listener.address === '0.0.0.0' ? '127.0.0.1' : listener.address === '::' ? '::1' : listener.address;
  const wire = await WireClient.open({
    host,
    port: listener.port,
    implicitTls: false,
    trust: { servername: host },
    clock,
    timeoutMs: 120_000,
    signal: new AbortController().signal,
  });
  try {
    const steps = [`EHLO doctor.${hostname}`, `MAIL FROM:<${mail.from}>`, `RCPT TO:<${mail.to}>`];
    let said = await reply(wire);
    for (const step of steps) if (said.code < 300) said = await command(wire, step);
    if (said.code >= 300 || mail.body === undefined) return said;
    said = await command(wire, 'DATA');
    if (said.code !== 354) return said;
    wire.write(`${mail.body.replace(/^\./gm, '..')}\r\n.\r\n`);
    return await reply(wire);
  } finally {
    wire.close();
  }
}

const message = ({ clock, hostname }: Parts, to: string, subject: string, text: string): string =>
  [
    `From: Postern doctor <postmaster@${hostname}>`,
    `To: ${to}`,
    `Subject: Postern doctor: ${subject}`,
    `Date: ${formatDate(clock.now())}`,
    `Message-ID: <${randomBytes(12).toString('hex')}@${hostname}>`,
    '',
    text,
    '',
  ].join('\r\n');

const words = ({ code, lines }: Reply): string => `${code} ${lines.join(' ')}`;

/** The trace of the message that the reply names, once it is written. */
async function traceOf({ config, clock, log }: Parts, id: string): Promise<TraceRecord | undefined> {
  const store = await openTraces(config, clock, log);
  try {
    for (let tries = 0; tries < 40; tries++) {
      const found = await store.find(id);
      if (found) return found.record;
      await new Promise<void>(resolve => clock.after(250, resolve));
    }
    return undefined;
  } finally {
    await store.close();
  }
}

const idOf = (text: string): string | undefined => /\b([0-9A-HJKMNP-TV-Z]{17})\b/.exec(text)?.[1];

async function inbound(parts: Parts, { to }: LiveOptions): Promise<readonly Finding[]> {
  const { ok, warn, fail, skip } = findings('live');
  const { config, listener, hostname } = parts;
  const found: Finding[] = [];
  const sender = `postern-doctor@${hostname}`;
  const plugins = new Set(readChain(config.options.chain).entries.map(entry => entry.plugin));
  const domain = to.slice(to.lastIndexOf('@') + 1);

  const plain = await send(parts, {
    from: sender,
    to,
    body: message(parts, to, 'plain message', 'A test. Nothing is to be done.'),
  });
  const id = idOf(words(plain));
  const trace = id === undefined ? undefined : await traceOf(parts, id);
  if (plain.code >= 300 || !trace)
    found.push(
      fail(
        `plain message to ${to}`,
        words(plain),
        "The trace or the log says which plugin refused it ('postern trace ID')",
      ),
    );
  else {
    const [recipient] = trace.recipients;
    const arrived = ['delivered', 'relayed'].includes(recipient?.outcome ?? '');
    const detail = `${recipient?.outcome}: ${recipient?.detail ?? ''} (${id})`;
    found.push(
      arrived
        ? ok(`plain message to ${to}`, detail)
        : warn(`plain message to ${to}`, detail, `It waits in the queue: 'postern queue show ${id}'`),
    );
  }

  const unknown = await send(parts, { from: '', to: `postern-doctor-${randomBytes(5).toString('hex')}@${domain}` });
  if (unknown.code >= 500) found.push(ok('unknown recipient', words(unknown)));
  else if (config.options.domains.some(each => each.name === domain && each.kind === 'relay'))
    found.push(
      warn(
        'unknown recipient',
        `${words(unknown)} before the data`,
        'The server behind decides at the end of the data; a list of recipients would refuse earlier',
      ),
    );
  else found.push(fail('unknown recipient', words(unknown), "Put 'recipients' into the chain"));

  const bounce = await send(parts, { from: '', to });
  found.push(
    bounce.code < 300
      ? ok('bounce (null sender)', words(bounce))
      : fail(
          'bounce (null sender)',
          words(bounce),
          'Bounces must be taken (RFC 5321 §4.5.5): which plugin refuses them?',
        ),
  );

  if (cidrSet(config.options.relayNetworks).has(listener.address === '::' ? '::1' : '127.0.0.1'))
    found.push(skip('open relay', 'this machine is in relayNetworks', 'Try it from outside'));
  else {
    const relay = await send(parts, { from: sender, to: 'postern-doctor@example.com' });
    found.push(
      relay.code >= 500
        ? ok('open relay', words(relay))
        : fail('open relay', words(relay), "Put 'relay-policy' into the chain at once"),
    );
  }

  if (plugins.has('spamassassin') || plugins.has('rspamd')) {
    const spam = await send(parts, { from: sender, to, body: message(parts, to, 'spam pattern', gtube) });
    const marked = spam.code < 300 ? await traceOf(parts, idOf(words(spam)) ?? '') : undefined;
    if (spam.code >= 500) found.push(ok('spam pattern (GTUBE)', words(spam)));
    else if (
      marked?.steps.some(step =>
        /spam|junk|quarantine/i.test(`${step.verdict} ${step.why ?? ''} ${JSON.stringify(step.evidence ?? {})}`),
      )
    )
      found.push(ok('spam pattern (GTUBE)', `marked (${marked.id})`));
    else
      found.push(
        fail(
          'spam pattern (GTUBE)',
          words(spam),
          'The spam filter did not see it: is this machine exempt, or the filter down with onError: continue?',
        ),
      );
  } else found.push(skip('spam pattern (GTUBE)', 'no spam filter in the chain', 'Add rspamd or spamassassin'));

  if (plugins.has('clamav')) {
    const virus = await send(parts, { from: sender, to, body: message(parts, to, 'virus pattern', eicar) });
    found.push(
      virus.code >= 500
        ? ok('virus pattern (EICAR)', words(virus))
        : fail(
            'virus pattern (EICAR)',
            words(virus),
            'The scanner did not see it: has clamd its signatures (freshclam)?',
          ),
    );
  } else found.push(skip('virus pattern (EICAR)', 'no virus scanner in the chain', 'Add clamav'));
  return found;
}

async function outbound(parts: Parts, to: string): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('live');
  const { config, hostname, clock } = parts;
  const parsed = parseMailbox(to);
  if (parsed.kind === 'error') return [fail(`message to ${to}`, 'is no address', '--outside ADDRESS')];
  const folder = maildropFolder(config);
  await ensureMaildrop(folder);
  const mark = randomBytes(6).toString('hex');
  const sender = makeAddress('postmaster', originOf(config, hostname));
  const text = message(parts, to, `outgoing message ${mark}`, 'A test. Look whether SPF, DKIM and DMARC pass.').replace(
    `postmaster@${hostname}>`,
    `${sender.text}>`,
  );
  await dropMail(folder, { sender, recipients: [{ address: parsed.address }] }, [Buffer.from(text)], clock.now());
  const store = await openTraces(config, clock, parts.log);
  try {
    for (let tries = 0; tries < 120; tries++) {
      const recent = await store.search({ sender: sender.text, limit: 20 });
      const stored = recent.find(each => each.record.subject?.includes(mark));
      const about = stored?.record;
      const later = stored?.events.at(-1);
      if (about && later) {
        const detail = `${later.outcome}: ${later.detail ?? ''} (${about.id})`;
        return [
          later.outcome === 'relayed' || later.outcome === 'delivered'
            ? ok(`message to ${to}`, detail)
            : warn(`message to ${to}`, detail, `'postern queue show ${about.id}' says what is tried`),
        ];
      }
      if (about && about.outcome !== 'accepted')
        return [fail(`message to ${to}`, about.reply, `'postern trace ${about.id}' says which plugin refused it`)];
      await new Promise<void>(resolve => clock.after(500, resolve));
    }
    return [
      fail(
        `message to ${to}`,
        'no word of it within a minute',
        "Does the gateway run? 'postern mailq' shows what waits",
      ),
    ];
  } finally {
    await store.close();
  }
}

export async function checkLive(parts: Omit<Parts, 'listener'>, options: LiveOptions): Promise<readonly Finding[]> {
  const { fail } = findings('live');
  const listener = parts.config.options.listeners.find(
    each => each.role === 'smtp' && each.tls !== 'implicit' && each.port !== 0,
  );
  if (!listener) return [fail('inbound', 'no smtp listener', 'Configure one')];
  const whole = { ...parts, listener };
  try {
    const first = await inbound(whole, options);
    return [...first, ...(options.outside === undefined ? [] : await outbound(whole, options.outside))];
  } catch (error) {
    return [
      fail(`${listener.address}:${listener.port}`, (error as Error).message, "Does the gateway run? 'postern status'"),
    ];
  }
}
