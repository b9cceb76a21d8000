// The macros that a milter is told at each stage, by the names of sendmail's configuration.
import type { Host, InMail, Recipient } from '../../core/plugin/index.ts';

export type Stage = 'C' | 'H' | 'M' | 'R' | 'T' | 'N' | 'E';
type Values = Readonly<Record<string, string | undefined>>;

/** Numbers of the stages in a milter's own list of macros (SMFIM_…). */
export const macroStages: readonly Stage[] = ['C', 'H', 'M', 'R', 'T', 'E', 'N'];

/** What is sent at each stage unless the milter asked for more: as sendmail and Postfix do. */
const presets: Readonly<Record<Stage, readonly string[]>> = {
  C: ['j', '_', 'v', '{daemon_name}', '{daemon_addr}', '{daemon_port}', '{client_addr}', '{client_name}', '{client_port}', '{client_ptr}'],
  H: ['{tls_version}', '{cipher}'],
  M: ['i', '{auth_type}', '{auth_authen}', '{auth_author}', '{mail_addr}', '{mail_host}', '{mail_mailer}'],
  R: ['i', '{rcpt_addr}', '{rcpt_host}', '{rcpt_mailer}'],
  T: ['i'],
  N: ['i'],
  E: ['i'],
}; // biome-ignore format: a table

function valuesOf(at: InMail, host: Host, id: string, to?: Recipient): Values {
  const { session, envelope, identity } = at;
  const { remote, local, tls } = session;
  const name = remote.name ?? `[${remote.address}]`;
  return {
    j: host.hostname,
    v: 'Postern',
    i: id,
    _: `${name} [${remote.address}]`,
    '{daemon_name}': session.listener,
    '{daemon_addr}': local.address,
    '{daemon_port}': String(local.port),
    '{client_addr}': remote.address,
    '{client_name}': remote.name ?? 'unknown',
    '{client_ptr}': remote.name ?? 'unknown',
    '{client_port}': String(remote.port),
    '{tls_version}': tls?.version,
    '{cipher}': tls?.cipher,
    '{auth_type}': identity?.mechanism,
    '{auth_authen}': identity?.name,
    '{auth_author}': identity ? envelope.auth : undefined,
    '{mail_addr}': envelope.sender?.text ?? '',
    '{mail_host}': envelope.sender?.domain ?? '',
    '{mail_mailer}': 'smtp',
    ...(to ? { '{rcpt_addr}': to.address.text, '{rcpt_host}': to.address.domain, '{rcpt_mailer}': 'smtp' } : {}),
  };
}

export type MacrosFor = (stage: Stage, to?: Recipient) => readonly string[];

/** Names and values in turn, of those that have a value. `wanted`: the milter's own list by stage. */
export function createMacros(
  at: InMail,
  host: Host,
  id: string,
  wanted: ReadonlyMap<Stage, readonly string[]>,
): MacrosFor {
  return (stage, to) => {
    const values = valuesOf(at, host, id, to);
    const names = new Set([...presets[stage], ...(wanted.get(stage) ?? [])]);
    return [...names].flatMap(name => {
      const value = values[name];
      return value === undefined ? [] : [name, value];
    });
  };
}
