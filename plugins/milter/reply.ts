// A reply that a milter chose (SMFIR_REPLYCODE, `550 5.7.1 text`) as one that our chain may give.
import type { MessageAnswer, Reply } from '../../core/plugin/index.ts';

export type Refusal = Extract<MessageAnswer, { kind: 'reject' | 'defer' }>;

const never: Reply<5> = { code: 550, enhanced: '5.7.1', text: 'Message was refused by policy' };
const later: Reply<4> = { code: 451, enhanced: '4.7.1', text: 'Please try again later' };

const permanent: readonly number[] = [550, 551, 552, 553, 554];
const temporary: readonly number[] = [421, 450, 451, 452];

export const refuse = (why: string): Refusal => ({ kind: 'reject', reply: never, why });
export const postpone = (why: string): Refusal => ({ kind: 'defer', reply: later, why });

/** Throws where the text is no reply of class 4 or 5. `own`: keep the milter's text. */
export function parseReply(text: string, own: boolean, stage: string): Refusal {
  const [, code, enhanced, rest = ''] = /^([45]\d\d)(?:[ -]([45]\.\d{1,3}\.\d{1,3}))?[ -]?([^\r\n]*)/.exec(text) ?? [];
  if (code === undefined) throw new Error(`Milter answered '${text.slice(0, 60)}', which is no reply`);
  const said = rest
    .replace(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 300);
  const why = `Milter says '${code} ${said}' at ${stage}`;
  const number = Number(code);
  const words = own && said !== '' ? { text: said } : {};
  if (code.startsWith('4')) {
    const known = temporary.includes(number) ? { code: number as Reply<4>['code'] } : {};
    const status = enhanced?.startsWith('4') ? { enhanced: enhanced as Reply<4>['enhanced'] } : {};
    return { kind: 'defer', reply: { ...later, ...known, ...status, ...words }, why };
  }
  const known = permanent.includes(number) ? { code: number as Reply<5>['code'] } : {};
  const status = enhanced?.startsWith('5') ? { enhanced: enhanced as Reply<5>['enhanced'] } : {};
  return { kind: 'reject', reply: { ...never, ...known, ...status, ...words }, why };
}
