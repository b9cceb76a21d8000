// Readable text of HTML, by best effort (RFC 5173 §5.3): what a browser would show, without running or fetching anything.
// One pass, linear in the length; what is not closed ends at the end.
import { decodeEntities } from '../mail/html-entities.ts';

const block = new Set([
  'p',
  'div',
  'br',
  'tr',
  'li',
  'table',
  'h1',
  'h2',
  'h3',
  'h4',
  'h5',
  'h6',
  'hr',
  'blockquote',
  'td',
  'th',
  'ul',
  'ol',
]);
const hidden = new Set(['script', 'style', 'head', 'title']);

export function htmlText(html: string): string {
  const out: string[] = [];
  let at = 0;
  const lower = html.toLowerCase();
  const unclosed = new Set<string>();
  while (at < html.length) {
    const open = html.indexOf('<', at);
    if (open === -1) break;
    out.push(html.slice(at, open));
    if (html.startsWith('<!--', open)) {
      const close = html.indexOf('-->', open + 4);
      at = close === -1 ? html.length : close + 3;
      continue;
    }
    const name = /^\/?([a-z][a-z0-9]*)/.exec(lower.slice(open + 1, open + 20))?.[1];
    if (name === undefined && !/^<[!?/]/.test(html.slice(open, open + 2))) {
      out.push('<');
      at = open + 1;
      continue;
    }
    const close = html.indexOf('>', open);
    at = close === -1 ? html.length : close + 1;
    if (name !== undefined && block.has(name)) out.push('\r\n');
    if (name !== undefined && hidden.has(name) && lower[open + 1] !== '/' && !unclosed.has(name)) {
      const end = lower.indexOf(`</${name}`, at);
      if (end === -1) unclosed.add(name);
      else at = end;
    }
  }
  out.push(html.slice(at));
  return decodeEntities(out.join(''));
}
