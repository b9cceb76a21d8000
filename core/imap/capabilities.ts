// The capability table: an extension is announced by a row here and lives in its command's file.
import type { ImapLimits } from './limits.ts';
import type { StoredMailRules } from './ports.ts';

export interface CapabilityFacts {
  readonly loggedIn: boolean;
  readonly canStartTls: boolean;
  readonly passwordsForbidden: boolean;
  /** SASL mechanisms on offer. */
  readonly mechanisms: readonly string[];
  readonly limits: ImapLimits;
  readonly metadata: boolean;
  readonly rules: Pick<StoredMailRules, 'filter' | 'sieveUrl'> | undefined;
}

interface Row {
  readonly name: string | ((facts: CapabilityFacts) => string | readonly string[]);
  /** Default: always. */
  shown?(facts: CapabilityFacts): boolean;
}

const loggedIn = (facts: CapabilityFacts): boolean => facts.loggedIn;

const rows: readonly Row[] = [
  { name: 'IMAP4rev1' },
  { name: facts => facts.limits.literals },
  { name: 'SASL-IR' },
  { name: 'ID' },
  { name: 'ENABLE' },
  { name: 'IDLE' },
  { name: 'STARTTLS', shown: facts => !facts.loggedIn && facts.canStartTls },
  { name: 'LOGINDISABLED', shown: facts => !facts.loggedIn && facts.passwordsForbidden },
  { name: facts => facts.mechanisms.map(mechanism => `AUTH=${mechanism}`), shown: facts => !facts.loggedIn },
  { name: 'NAMESPACE', shown: loggedIn },
  { name: 'CHILDREN', shown: loggedIn },
  { name: 'UNSELECT', shown: loggedIn },
  { name: 'UIDPLUS', shown: loggedIn },
  { name: 'MOVE', shown: loggedIn },
  { name: 'MULTIAPPEND', shown: loggedIn },
  { name: facts => `APPENDLIMIT=${facts.limits.appendBytes}`, shown: loggedIn },
  { name: 'BINARY', shown: loggedIn },
  { name: 'LIST-EXTENDED', shown: loggedIn },
  { name: 'LIST-STATUS', shown: loggedIn },
  { name: 'STATUS=SIZE', shown: loggedIn },
  { name: 'SPECIAL-USE', shown: loggedIn },
  { name: 'CREATE-SPECIAL-USE', shown: loggedIn },
  { name: 'CONDSTORE', shown: loggedIn },
  { name: 'QRESYNC', shown: loggedIn },
  { name: 'ESEARCH', shown: loggedIn },
  { name: 'WITHIN', shown: loggedIn },
  { name: 'QUOTA', shown: loggedIn },
  { name: 'QUOTA=RES-STORAGE', shown: loggedIn },
  { name: 'OBJECTID', shown: loggedIn },
  { name: 'METADATA', shown: facts => facts.loggedIn && facts.metadata },
  { name: 'FILTER=SIEVE', shown: facts => facts.loggedIn && facts.rules?.filter === true },
  {
    name: facts => `IMAPSIEVE=${facts.rules?.sieveUrl ?? ''}`,
    // RFC 6785 §2.1: METADATA goes with it.
    shown: facts => facts.loggedIn && facts.metadata && facts.rules?.sieveUrl !== undefined,
  },
];

export function capabilityNames(facts: CapabilityFacts): readonly string[] {
  return rows
    .filter(row => row.shown?.(facts) ?? true)
    .flatMap(row => (typeof row.name === 'string' ? row.name : row.name(facts)));
}
