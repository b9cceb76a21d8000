// Links in HTML: every attribute that a browser would fetch or follow, read as a browser reads it (character references,
// `<base>`, tabs and line ends within a link, backslashes), and the text that is shown. One pass, linear in the length.
import { decodeEntities } from '../../core/plugin/index.ts';

export interface HtmlLinks {
  /** As written in attributes, decoded; may be relative to `base`. */
  readonly links: readonly string[];
  readonly base?: string;
  /** What is shown, scripts and comments with it: links hide there too. */
  readonly text: string;
}

const linkAttributes = new Set(
  'href src action formaction background data poster cite longdesc manifest ping codebase classid profile usemap xlink:href srcdoc'.split(
    ' ',
  ),
);
const attribute = /([^\s"'<>/=]{1,60})\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/g;
const cssUrl = /url\(\s*["']?([^"')\s]{1,2000})/gi;
/** Tags that break a word on the screen; all others may stand in the middle of one. */
const block =
  /^\/?(?:address|article|blockquote|br|center|dd|div|dl|dt|h[1-6]|hr|li|ol|option|p|pre|table|tbody|td|tfoot|th|thead|title|tr|ul)$/;
const maxAttributes = 50_000;

function readTag(body: string, found: string[]): string | undefined {
  let base: string | undefined;
  const isBase = /^base[\s/]/i.test(body);
  for (const [, name = '', double, single, plain] of body.matchAll(attribute)) {
    if (found.length > maxAttributes) break;
    const value = decodeEntities(double ?? single ?? plain ?? '');
    const lower = name.toLowerCase();
    if (isBase && lower === 'href') base ??= value.trim();
    else if (lower === 'srcset') found.push(...value.split(',').map(each => each.trim().split(/\s/, 1)[0] ?? ''));
    else if (linkAttributes.has(lower)) found.push(value);
    // <meta http-equiv=refresh content="0; url=…">
    else if (lower === 'content') found.push(/^[\d.\s]*[;,]?\s*url\s*=\s*["']?(.+)/is.exec(value)?.[1] ?? '');
    else if (lower === 'style') for (const [, url = ''] of value.matchAll(cssUrl)) found.push(url);
    // Handlers, `data-href` and the like.
    else if (/:[\\/]{2}/.test(value)) found.push(value);
  }
  return base;
}

/** End of the tag at `from`: the first `>` outside of quotes. A quote that never ends ends at the first `>`. */
function tagEnd(html: string, from: number): number {
  const first = html.indexOf('>', from);
  if (first < 0) return html.length;
  let at = from;
  for (let steps = 0; steps < 1000; steps++) {
    const rest = /["'>]/g;
    rest.lastIndex = at;
    const match = rest.exec(html);
    if (!match) return first;
    if (match[0] === '>') return match.index;
    const close = html.indexOf(match[0], match.index + 1);
    if (close < 0 || close - from > 20_000) return first;
    at = close + 1;
  }
  return first;
}

export function htmlLinks(html: string): HtmlLinks {
  const links: string[] = [];
  const text: string[] = [];
  let base: string | undefined;
  let at = 0;
  while (at < html.length) {
    const open = html.indexOf('<', at);
    if (open < 0) break;
    text.push(html.slice(at, open));
    const name = /^\/?[a-z][a-z0-9:]*/i.exec(html.slice(open + 1, open + 31))?.[0].toLowerCase();
    if (html.startsWith('<!--', open)) {
      const close = html.indexOf('-->', open + 4);
      at = close < 0 ? html.length : close + 3;
      text.push(' ', html.slice(open + 4, close < 0 ? html.length : close), ' ');
    } else if (name === undefined) {
      text.push('<');
      at = open + 1;
    } else {
      const close = tagEnd(html, open + 1);
      // A tag that never ends shows nothing in a browser; a reader of the source sees it.
      if (close === html.length) text.push(' ', html.slice(open + 1));
      base ??= readTag(html.slice(open + 1, close), links);
      if (block.test(name)) text.push('\n');
      at = close + 1;
    }
  }
  text.push(html.slice(at));
  for (const [, url = ''] of html.matchAll(cssUrl)) links.push(decodeEntities(url));
  const shown = decodeEntities(text.join(''));
  return { links: links.filter(link => link !== ''), ...(base === undefined ? {} : { base }), text: shown };
}
