// XCLIENT (Postfix XCLIENT_README): a trusted front tells the real client. The session starts over with a new greeting.

import { isIP } from 'node:net';
import { unmapAddress } from '../lib/cidr.ts';
import type { Session } from '../plugin/contract.ts';
import { xtextValue } from './command-line.ts';
import { greetingRefusal } from './greeting-refusal.ts';
import type { SmtpSession } from './session.ts';

type Values = ReadonlyMap<string, string | undefined>;
const known: readonly string[] = ['NAME', 'ADDR', 'PORT', 'PROTO', 'HELO', 'LOGIN', 'DESTADDR', 'DESTPORT'];

export async function xclient(session: SmtpSession, args: string): Promise<void> {
  // Trust goes to the peer of the socket, never to an address that it told.
  if (!session.context.xclientFrom.has(session.peerAddress)) return session.error(550, '5.7.1', 'Not allowed');
  if (session.transaction) return session.error(503, '5.5.1', 'Mail transaction in progress');
  const values = readValues(args);
  if (!values) return session.error(501, '5.5.4', 'Attributes malformed');
  session.helo = '';
  session.greetedBy = undefined;
  const { remote, local } = session.facts;
  const login = values.get('LOGIN');
  session.changeFacts(
    { remote: newRemote(remote, values), local: newLocal(local, values) },
    login === undefined ? null : { name: login, mechanism: 'XCLIENT' },
  );
  const outcome = await session.chain.connect();
  if (session.isOver) return;
  if (outcome.kind === 'ok') return session.sayGreeting();
  session.recordRefusedSession('connect', outcome);
  session.sayReply(greetingRefusal(outcome.reply));
  session.close('refused');
}

/** Undefined values stand for `[UNAVAILABLE]` and `[TEMPUNAVAIL]`. */
function readValues(args: string): Values | undefined {
  const values = new Map<string, string | undefined>();
  if (args === '') return undefined;
  for (const word of args.split(/\s+/)) {
    const [, keyword = '', text = ''] = /^([A-Za-z]+)=(.*)$/.exec(word) ?? [];
    const key = keyword.toUpperCase();
    const value = xtextValue(text);
    if (!known.includes(key) || value === undefined || value === '') return undefined;
    const missing = /^\[(?:UNAVAILABLE|TEMPUNAVAIL)\]$/i.test(value);
    const plain = value.replace(/^IPV6:/i, '');
    if (!missing && key.endsWith('ADDR') && isIP(plain) === 0) return undefined;
    if (!missing && key.endsWith('PORT') && !(/^\d{1,5}$/.test(value) && Number(value) < 65_536)) return undefined;
    if (!missing && key === 'NAME' && !/^[A-Za-z0-9_.-]{1,255}$/.test(value)) return undefined;
    values.set(key, missing ? undefined : key.endsWith('ADDR') ? unmapAddress(plain) : value);
  }
  return values;
}

function newRemote(old: Session['remote'], values: Values): Session['remote'] {
  const address = values.get('ADDR') ?? old.address;
  const port = values.get('PORT');
  // A new address makes the old name a lie.
  const name = values.has('NAME') ? values.get('NAME')?.toLowerCase() : values.get('ADDR') ? undefined : old.name;
  return { address, port: port === undefined ? old.port : Number(port), ...(name !== undefined && { name }) };
}

function newLocal(old: Session['local'], values: Values): Session['local'] {
  const port = values.get('DESTPORT');
  return { address: values.get('DESTADDR') ?? old.address, port: port === undefined ? old.port : Number(port) };
}
