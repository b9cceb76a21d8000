// Patterns of LIST and LSUB (RFC 3501 §6.3.8): `*` is anything, `%` anything but the delimiter. Matched by the set of
// positions that can be reached, so the cost is pattern times name and no pattern makes it more.
import { delimiter } from './mailbox-name.ts';

export interface ListPattern {
  matches(name: string): boolean;
}

/** `reference` goes in front; INBOX at its beginning is case-insensitive. */
export function listPattern(reference: string, pattern: string): ListPattern {
  const whole = (reference + pattern).replace(/[*%]*\*[*%]*/g, '*').replace(/%+/g, '%');
  const folded = /^inbox(?=$|[/*%])/i.test(whole) ? `INBOX${whole.slice(5)}` : whole;
  return {
    matches: name => matchesAt(folded, name) || (name === 'INBOX' && matchesAt(folded.toUpperCase(), name)),
  };
}

function matchesAt(pattern: string, name: string): boolean {
  // reached[i]: the pattern read so far can have consumed i characters of the name.
  let reached = new Uint8Array(name.length + 1);
  reached[0] = 1;
  for (const char of pattern.split('')) {
    const next = new Uint8Array(name.length + 1);
    for (let i = 0; i <= name.length; i += 1) {
      if (char === '*' || char === '%') {
        const extended = i > 0 && next[i - 1] === 1 && (char === '*' || name[i - 1] !== delimiter);
        if (reached[i] === 1 || extended) next[i] = 1;
      } else if (i > 0 && reached[i - 1] === 1 && name[i - 1] === char) next[i] = 1;
    }
    reached = next;
  }
  return reached[name.length] === 1;
}
