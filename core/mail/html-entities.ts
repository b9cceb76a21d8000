// Character references of HTML as browsers read them: numeric ones with or without the semicolon, and the named ones that
// occur in text and in addresses. A name that is not known stays as it is.

const named: Readonly<Record<string, string>> = {
  ...{ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ', euro: '€', copy: '©', reg: '®', hellip: '…' },
  ...{ auml: 'ä', ouml: 'ö', uuml: 'ü', Auml: 'Ä', Ouml: 'Ö', Uuml: 'Ü', szlig: 'ß', eacute: 'é', egrave: 'è' },
  ...{ agrave: 'à', ccedil: 'ç', ntilde: 'ñ', ndash: '–', mdash: '—', lsquo: '‘', rsquo: '’', ldquo: '“', rdquo: '”' },
  // What an address can be made of.
  ...{ colon: ':', sol: '/', bsol: '\\', period: '.', commat: '@', num: '#', quest: '?', equals: '=', percnt: '%' },
  ...{ lowbar: '_', hyphen: '‐', dash: '‐', shy: '\u00ad', Tab: '\t', NewLine: '\n', lpar: '(', rpar: ')', semi: ';' },
  ...{ lsqb: '[', lbrack: '[', rsqb: ']', rbrack: ']', zwj: '\u200d', zwnj: '\u200c', ZeroWidthSpace: '\u200b' },
  ...{ NoBreak: '\u2060', plus: '+', ast: '*', comma: ',', dollar: '$', excl: '!' },
};

function decode(whole: string, name: string): string {
  if (name[0] !== '#') return named[name] ?? whole;
  const code = /^#x/i.test(name) ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
  return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : whole;
}

export const decodeEntities = (text: string): string =>
  text.replace(/&(#x[0-9a-f]{1,8}|#[0-9]{1,10}|[a-z]{2,16}(?=;));?/gi, decode);
