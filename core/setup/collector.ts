// What the parts of `postern setup` collect answers with: the flags, the questions, and the choice between them.
import { type CliContext, UsageError } from '../cli/context.ts';
import { parseDomain } from '../mail/address.ts';
import type { Dns } from '../plugin/contract.ts';
import type { Questions } from './questions.ts';

export interface SetupFlags {
  readonly kind?: string;
  readonly hostname?: string;
  readonly domain?: readonly string[];
  readonly backend?: string;
  readonly listen?: string;
  readonly outbound?: string | false;
  readonly network?: readonly string[];
  readonly address?: readonly string[];
  readonly data?: string;
  readonly ldap?: string;
  readonly ldapDomain?: string;
  readonly ldapStarttls?: boolean;
  readonly ldapBind?: string;
  readonly ldapPasswordFile?: string;
  readonly ldapPasswordEnv?: string;
  readonly ldapBase?: string;
  readonly ldapCa?: string;
  readonly pin?: boolean;
  readonly dkim?: boolean;
}

export interface Collector {
  readonly context: CliContext;
  readonly flags: SetupFlags;
  readonly questions: Questions;
  /** Nobody can be asked. */
  readonly silent: boolean;
  readonly dns: Dns;
  /** Where the configuration goes. */
  readonly configFile: string;
  say(line: string): void;
}

export const domainFault = (name: string): string | undefined =>
  name.includes('.') && !name.startsWith('[') && parseDomain(name) !== undefined
    ? undefined
    : `'${name}' is no domain name`;

export function checked(value: string, flag: string, check: (text: string) => string | undefined): string {
  const fault = value === '' ? `is needed` : check(value);
  if (fault === undefined) return value;
  throw new UsageError(value === '' ? `${flag} is needed (or a terminal to ask on)` : `${flag}: ${fault}`);
}

/** The flag, or the answer to the question; without a terminal the default. */
export async function obtain(
  { questions, silent }: Collector,
  given: string | undefined,
  flag: string,
  question: string,
  fallback: string,
  check: (text: string) => string | undefined = () => undefined,
): Promise<string> {
  if (given !== undefined) return checked(given, flag, check);
  return silent ? checked(fallback, flag, check) : questions.ask(question, fallback, check);
}
