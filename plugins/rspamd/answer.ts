// The JSON of /checkv2, read strictly: without a number for the score and a name for the action it is no answer.
import { type Edit, type SpamSymbol, z } from '../../core/plugin/index.ts';

const added = z.union([z.string(), z.object({ value: z.string(), order: z.number().optional() })]);

const schema = z.object({
  score: z.number(),
  required_score: z.number(),
  action: z.string().max(100),
  symbols: z.record(z.string(), z.object({ score: z.number().optional() })).optional(),
  milter: z
    .object({
      add_headers: z.record(z.string(), z.union([added, z.array(added)])).optional(),
      remove_headers: z.record(z.string(), z.number()).optional(),
    })
    .optional(),
});
export type RspamdAnswer = z.infer<typeof schema>;

/** Most symbols that are kept, those that weigh most first. */
const maxSymbols = 200;

/** Throws where the bytes are no answer. */
export function parseAnswer(bytes: Buffer): RspamdAnswer {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new Error('Answer is no JSON', { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Error(`Answer is not as expected: ${issue?.path.join('.')}: ${issue?.message}`);
}

export const symbolsOf = (answer: RspamdAnswer): readonly SpamSymbol[] =>
  Object.entries(answer.symbols ?? {})
    .filter(([name]) => /^\w{1,100}$/.test(name))
    .map(([name, { score = 0 }]) => ({ name, score }))
    .sort((a, b) => Math.abs(b.score) - Math.abs(a.score))
    .slice(0, maxSymbols);

const matches = (name: string, patterns: readonly string[]): boolean =>
  patterns.some(pattern =>
    pattern.endsWith('*')
      ? name.toLowerCase().startsWith(pattern.slice(0, -1).toLowerCase())
      : name.toLowerCase() === pattern.toLowerCase(),
  );
const fieldName = /^[\x21-\x39\x3b-\x7e]{1,70}$/;
/** Folds stay, every other line break and control character goes. */
const fieldValue = (value: string): string =>
  value
    .replace(/\r?\n[ \t]+/g, '\n\t')
    .replace(/\n(?!\t)|[\x00-\x08\x0b-\x1f\x7f]/g, ' ')
    .replace(/\n\t/g, '\r\n\t')
    .replace(/(?:\r\n\t\s*)+$/, '')
    .trim();

/** What rspamd wants done to the header, as far as `allowed` names the fields. Trace and structure are never touched. */
export function milterEdits({ milter }: RspamdAnswer, allowed: readonly string[]): readonly Edit[] {
  const may = (name: string): boolean =>
    fieldName.test(name) &&
    matches(name, allowed) &&
    !matches(name, ['Received', 'Return-Path', 'MIME-Version', 'Content-*', 'From', 'Date', 'Message-ID']);
  const removed = Object.entries(milter?.remove_headers ?? {}).flatMap(([name, index]): Edit[] => {
    if (!may(name)) return [];
    // 0 = all; 1 = the first.
    return [index > 0 ? { kind: 'remove-header', name, index: index - 1 } : { kind: 'remove-header', name }];
  });
  const inserted = Object.entries(milter?.add_headers ?? {}).flatMap(([name, given]) => {
    if (!may(name)) return [];
    return [given].flat().map((one): Edit => {
      const { value, order } = typeof one === 'string' ? { value: one, order: undefined } : one;
      const at = order !== undefined && order < 0 ? { at: 'bottom' as const } : {};
      return { kind: 'add-header', name, value: fieldValue(value), ...at };
    });
  });
  return [...removed, ...inserted];
}
