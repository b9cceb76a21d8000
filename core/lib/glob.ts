// Patterns with `*` (anything, also nothing) and `?` (one character), case-insensitive. In linear time per star: a pattern
// of an operator meets the text of a stranger, where a regular expression could take for ever.

export type Glob = (text: string) => boolean;

export function glob(pattern: string): Glob {
  const wanted = pattern.toLowerCase();
  return given => {
    const text = given.toLowerCase();
    let at = 0;
    let from = 0;
    let star = -1;
    let resume = 0;
    while (at < text.length) {
      if (wanted[from] === '*') {
        star = from++;
        resume = at;
      } else if (from < wanted.length && (wanted[from] === '?' || wanted[from] === text[at])) {
        from++;
        at++;
      } else if (star >= 0) {
        from = star + 1;
        at = ++resume;
      } else return false;
    }
    while (wanted[from] === '*') from++;
    return from === wanted.length;
  };
}
