// Secrets stand in files or in the environment, never in the configuration itself.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { SecretReference } from '../config/schema.ts';

/** Read at load. An Error says why it cannot be had. Without `env`, for a check from another shell, variables count as set. */
export function readSecret(
  secret: SecretReference,
  folder: string,
  env: Readonly<Record<string, string | undefined>> | undefined,
): string | Error {
  if ('env' in secret && !env) return '';
  if ('env' in secret) return env?.[secret.env] ?? new Error(`Environment variable '${secret.env}' is not set`);
  try {
    return readFileSync(path.resolve(folder, secret.file), 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    return new Error(`Cannot read the secret: ${(error as Error).message}`, { cause: error });
  }
}
