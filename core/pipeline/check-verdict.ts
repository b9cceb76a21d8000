// A plugin may be written in JavaScript, or lie: what it answers is checked at run time before anybody acts on it. An
// illegal answer counts as a failure of the entry, never as the verdict that it resembles.
import { quarantineReasons } from '../mail/deliverable.ts';
import type { HookName } from '../plugin/contract.ts';
import { type MessageAnswer, pass } from '../plugin/verdicts.ts';
import { hookTable } from './hook-table.ts';

const codes: Readonly<Record<'4' | '5', ReadonlySet<unknown>>> = {
  4: new Set([421, 450, 451, 452, 454]),
  5: new Set([500, 501, 502, 503, 504, 521, 530, 535, 538, 550, 551, 552, 553, 554, 555]),
};
/** RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets with code, enhanced code and CRLF. */
const maxText = 480;
const replyText = /^[\x20-\x7e]*$/;
const enhanced = /^([45])\.\d{1,3}\.\d{1,3}$/;
/** RFC 5322 §2.2: printable ASCII but the colon. */
const fieldName = /^[\x21-\x39\x3b-\x7e]{1,200}$/;
/** RFC 5322 §2.2: a line end inside a field body only as folding, never followed by an empty or unfolded line. */
const fieldBody = /^(?:[^\r\n\0]|\r\n(?=[ \t]+[^ \t\r\n]))*$/;

type Unknown = Readonly<Record<string, unknown>>;
const isRecord = (value: unknown): value is Unknown => typeof value === 'object' && value !== null;
const quoted = (value: unknown): string => `'${String(value).slice(0, 60)}'`;

/** What is wrong with the reply of a reject (class 5) or a defer (class 4); undefined when nothing is. */
function replyFault(reply: unknown, group: '4' | '5'): string | undefined {
  if (!isRecord(reply)) return 'has no reply';
  if (!codes[group].has(reply['code'])) return `has the reply code ${quoted(reply['code'])}`;
  const match = enhanced.exec(String(reply['enhanced']));
  if (match?.[1] !== group) return `has the enhanced status code ${quoted(reply['enhanced'])}`;
  const text = reply['text'];
  if (typeof text !== 'string' || text.length > maxText || !replyText.test(text))
    return `has a reply text that is not one line of ASCII: ${quoted(text)}`;
  return undefined;
}

const reasons: ReadonlySet<unknown> = new Set([undefined, ...quarantineReasons]);
const isReason = (value: unknown): boolean => reasons.has(value);

/** A message may be large: a plugin hands in pieces of the old one, which lie in a file. */
function isRope(value: unknown): boolean {
  if (!isRecord(value) || !Array.isArray(value['pieces'])) return false;
  let size = 0;
  for (const piece of value['pieces'] as readonly unknown[]) {
    if (Buffer.isBuffer(piece)) size += piece.length;
    else if (!isRecord(piece) || typeof piece['file'] !== 'string') return false;
    else size += Number(piece['end']) - Number(piece['start']);
  }
  return size === value['size'];
}

function editFault(edit: unknown): string | undefined {
  if (!isRecord(edit)) return 'has an edit that is not an object';
  const { kind, name, value, index, address } = edit;
  const fault = `has an illegal edit ${quoted(kind)}`;
  switch (kind) {
    case 'add-header':
    case 'replace-header':
      if (typeof name !== 'string' || !fieldName.test(name)) return `${fault}: name ${quoted(name)}`;
      if (typeof value !== 'string' || !fieldBody.test(value)) return `${fault}: value ${quoted(value)}`;
      break;
    case 'remove-header':
      if (typeof name !== 'string' || !fieldName.test(name)) return `${fault}: name ${quoted(name)}`;
      break;
    case 'replace-body':
      return Buffer.isBuffer(edit['body']) || isRope(edit['body']) ? undefined : `${fault}: body is no Buffer or Rope`;
    case 'mark-forged':
      return undefined;
    case 'quarantine-original':
      if (typeof edit['why'] !== 'string') return `${fault}: no reason`;
      return isReason(edit['reason']) ? undefined : `${fault}: reason ${quoted(edit['reason'])}`;
    case 'add-recipient':
    case 'remove-recipient':
      return typeof address === 'string' && address !== '' ? undefined : `${fault}: address ${quoted(address)}`;
    case 'set-recipient-sender':
      if (typeof edit['recipient'] !== 'string') return `${fault}: recipient ${quoted(edit['recipient'])}`;
      return typeof address === 'string' && address !== '' ? undefined : `${fault}: address ${quoted(address)}`;
    case 'set-sender':
      return address === null || typeof address === 'string' ? undefined : `${fault}: address ${quoted(address)}`;
    default:
      return fault;
  }
  return index === undefined || Number.isSafeInteger(index) ? undefined : `${fault}: index ${quoted(index)}`;
}

/** Why `answer` is not a legal answer of `hook`, as the end of a sentence; undefined when it is legal. */
export function verdictFault(hook: HookName, answer: unknown): string | undefined {
  if (answer === pass) return undefined;
  if (!isRecord(answer)) return `answered ${quoted(answer)}, which is no verdict`;
  const kind = answer['kind'] as MessageAnswer['kind'];
  if (!hookTable[hook].legal.has(kind)) return `answered ${quoted(kind)}, which is no verdict of this hook`;
  if (kind === 'reject' || kind === 'defer') {
    const fault = replyFault(answer['reply'], kind === 'reject' ? '5' : '4');
    if (fault) return fault;
  }
  if (kind !== 'continue' && kind !== 'accept' && typeof answer['why'] !== 'string') return 'gave no reason';
  if (kind === 'quarantine' && !isReason(answer['reason'])) return `has the reason ${quoted(answer['reason'])}`;
  if ((hook === 'auth' || hook === 'sasl') && kind === 'accept') {
    const identity = answer['identity'];
    if (!isRecord(identity) || typeof identity['name'] !== 'string' || identity['name'] === '')
      return 'accepted nobody in particular';
  }
  const edits = answer['edits'];
  if (edits === undefined) return undefined;
  if (hook !== 'message' || !Array.isArray(edits)) return 'answered with edits where none are possible';
  for (const edit of edits) {
    const fault = editFault(edit);
    if (fault) return fault;
  }
  return undefined;
}
