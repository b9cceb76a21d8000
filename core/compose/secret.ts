import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { SecretReference } from '../config/schema.ts';

/** A secret of the configuration: read from its file or from the environment, at load. */
export function readSecret(
  secret: SecretReference,
  folder: string,
  env: Readonly<Record<string, string | undefined>>,
): string | Error {
  if ('env' in secret) return env[secret.env] ?? new Error(`Environment variable '${secret.env}' is not set`);
  try {
    return readFileSync(path.resolve(folder, secret.file), 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    return new Error(`Cannot read the secret: ${(error as Error).message}`, { cause: error });
  }
}
