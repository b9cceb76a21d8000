// Which action a signature calls for: rules of the administrator first, then clamd's families of heuristics by name.
import { type Action, actions, type ClamavOptions } from './options.ts';

type Family = 'encrypted' | 'macros' | 'phishing' | 'limits' | 'unwanted';

const families: readonly (readonly [RegExp, Family])[] = [
  [/^Heuristics\.Encrypted\./i, 'encrypted'],
  [/^Heuristics\.OLE2\.ContainsMacros/i, 'macros'],
  [/^Heuristics\.Phishing\./i, 'phishing'],
  [/^Heuristics\.Limits\.Exceeded/i, 'limits'],
  [/^PUA\./i, 'unwanted'],
];

/** `*` in a pattern stands for any characters; upper and lower case are the same. No regular expression is built. */
export function matchesPattern(name: string, pattern: string): boolean {
  const text = name.toLowerCase();
  const pieces = pattern.toLowerCase().split('*');
  const [first = '', last = ''] = [pieces[0], pieces.at(-1)];
  if (pieces.length === 1) return text === first;
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return at <= text.length - last.length;
}

export function actionFor(signature: string, settings: ClamavOptions): Action {
  // A signature that is not clamd's own ends in this.
  const name = signature.replace(/\.UNOFFICIAL$/, '');
  const rule = settings.rules.find(({ signature: pattern }) => matchesPattern(name, pattern));
  if (rule) return rule.action;
  const family = families.find(([pattern]) => pattern.test(name))?.[1];
  return settings[family ?? 'infected'];
}

export const strictest = (wanted: readonly Action[]): Action =>
  wanted.reduce((worst, next) => (actions.indexOf(next) > actions.indexOf(worst) ? next : worst), 'ignore');
