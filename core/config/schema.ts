// Kinds of configuration values. One schema (zod) gives validation, TypeScript types, the generated reference and the
// JSON Schema for editors. Every field has a `.describe(…)` sentence and a default, or is required.
import { z } from 'zod';

export { z };
export type Schema<Options> = z.ZodType<Options>;

const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const sizeUnits: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  kB: 1000,
  MB: 1_000_000,
  GB: 1_000_000_000,
  KiB: 1024,
  MiB: 1_048_576,
  GiB: 1_073_741_824,
};

function quantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.trim());
  const unit = match ? units[match[2] ?? ''] : undefined;
  return match && unit !== undefined ? Math.round(Number(match[1]) * unit) : undefined;
}

/** A time span such as `500ms`, `30s`, `5m`, `2h`, `5d`; the parsed value is in ms. */
export const duration = () =>
  z
    .string()
    .meta({ kind: 'duration' })
    .transform((text, ctx) => {
      const ms = quantity(text, durationUnits);
      if (ms !== undefined) return ms;
      ctx.addIssue({ code: 'custom', message: `Expected a time span such as '30s', '5m' or '2h', found '${text}'` });
      return z.NEVER;
    });

/** A number of bytes such as `25MiB`, `256KiB`, `1000`; the parsed value is in bytes. */
export const byteSize = () =>
  z
    .union([z.number().int().nonnegative(), z.string()])
    .meta({ kind: 'size' })
    .transform((value, ctx) => {
      const bytes = typeof value === 'number' ? value : quantity(value, sizeUnits);
      if (bytes !== undefined) return bytes;
      ctx.addIssue({ code: 'custom', message: `Expected a size such as '25MiB' or '256KiB', found '${value}'` });
      return z.NEVER;
    });

/** A secret is never written into the file itself: it is read from a file or from the environment. */
export const secret = () =>
  z.union([
    z.strictObject({
      file: z
        .string()
        .min(1)
        .meta({ kind: 'path' })
        .describe('File that holds the secret; a trailing line end is ignored.'),
    }),
    z.strictObject({ env: z.string().min(1).describe('Name of the environment variable that holds the secret.') }),
  ]);
export type SecretReference = { readonly file: string } | { readonly env: string };
