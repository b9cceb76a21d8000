// The issuer of the configuration, as the protocol servers ask it. Its secret and its authorities are read for each login,
// so that a changed file counts at once.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { AuthLimits } from '../accounts/auth-limits.ts';
import type { Directory } from '../accounts/directory.ts';
import type { VerifyToken } from '../accounts/sasl/mechanism.ts';
import { createTokenVerifier } from '../accounts/token-verifier.ts';
import type { ConfigProblem, LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { introspect, introspectionUrlFault } from '../net/introspection.ts';
import { readSecret } from './secret.ts';

type Env = Readonly<Record<string, string | undefined>>;

export interface TokenIssuerParts {
  readonly directory: Pick<Directory, 'find'>;
  readonly limits: AuthLimits;
  readonly env: Env;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Undefined where the configuration names no issuer: then no bearer mechanism is offered. */
export function tokenVerifierOf(
  config: Pick<LoadedConfig, 'options' | 'folder'>,
  parts: TokenIssuerParts,
): VerifyToken | undefined {
  const { oauth } = config.options;
  if (!oauth) return undefined;
  const { clock, log } = parts;
  const fileText = (name: string): string => readFileSync(path.resolve(config.folder, name), 'utf8');
  return createTokenVerifier({
    ...oauth,
    directory: parts.directory,
    limits: parts.limits,
    clock,
    async introspect(token) {
      const answer = await introspect(token, {
        url: oauth.introspection,
        clientId: oauth.clientId,
        clientSecret() {
          const secret = readSecret(oauth.clientSecret, config.folder, parts.env);
          if (secret instanceof Error) throw secret;
          return secret;
        },
        ca: oauth.ca === undefined ? undefined : fileText(oauth.ca),
        timeoutMs: oauth.timeout,
        clock,
      });
      if (answer.kind === 'unavailable')
        log.warn({ event: 'token-issuer-unavailable', why: answer.why }, 'Token issuer cannot be asked');
      return answer;
    },
  });
}

/** For `config check`. Without `env`, variables count as set. */
export function checkTokenIssuer(config: LoadedConfig, env?: Env): readonly ConfigProblem[] {
  const { oauth } = config.options;
  if (!oauth) return [];
  const fault = introspectionUrlFault(oauth.introspection);
  const secret = readSecret(oauth.clientSecret, config.folder, env);
  return [
    ...(fault === undefined ? [] : [config.locate(['oauth', 'introspection'], fault)]),
    ...(secret instanceof Error ? [config.locate(['oauth', 'clientSecret'], secret.message)] : []),
  ];
}
