// The compact case files under test/cases/sieve. One file per standard; in it:
//
//   § RFC 5228 §2.7.1             the clause that the following cases are about
//   > The empty key …             its words (at least one line per clause)
//   require: fileinto, copy       extensions for the following cases, until changed; `none` for none
//   message: list                 messages/list.eml for the following cases; `plain` is the default
//   true header :is "a" "b"       one case: the test holds for the message; `false`: it does not
//   == stores in two mailboxes    a case with a script of its own, up to the next empty line after its expectations
//   host: {"mailboxes": {…}}      options of the in-memory host for this case
//   keep;                         the script
//   => keep                       what is expected, see `case-runner.ts`
export interface SieveCase {
  readonly file: string;
  readonly line: number;
  readonly clause: string;
  readonly title: string;
  readonly kind: 'script' | 'true' | 'false';
  readonly require: readonly string[];
  readonly message: string;
  readonly host: Readonly<Record<string, unknown>>;
  readonly script: string;
  readonly expect: readonly string[];
}

export function parseCases(file: string, text: string): readonly SieveCase[] {
  const cases: SieveCase[] = [];
  const lines = text.split('\n');
  let clause = '';
  let quoted = false;
  let require: readonly string[] = [];
  let message = 'plain';
  let host: Readonly<Record<string, unknown>> = {};
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const word = /^(§|>|require:|message:|host:|==|true|false)\s*(.*)$/.exec(line);
    if (line.trim() === '' || line.startsWith('#')) continue;
    if (!word) throw new Error(`${file}:${at + 1}: not understood: ${line}`);
    const [, mark, rest = ''] = word;
    if (mark === '§') {
      clause = rest;
      quoted = false;
    } else if (mark === '>') quoted = true;
    else if (mark === 'require:') require = rest === 'none' ? [] : rest.split(/,\s*/);
    else if (mark === 'message:') message = rest;
    else if (mark === 'host:') host = JSON.parse(rest) as Readonly<Record<string, unknown>>;
    else {
      if (clause === '' || !quoted) throw new Error(`${file}:${at + 1}: a case without a clause and its words`);
      const base = { file, line: at + 1, clause, require, message, host };
      if (mark === 'true' || mark === 'false')
        cases.push({ ...base, kind: mark, title: rest, script: rest, expect: [] });
      else {
        const read = scriptCase(lines, at + 1);
        cases.push({ ...base, ...read.found, title: rest, kind: 'script' });
        at = read.next - 1;
      }
    }
  }
  return cases;
}

function scriptCase(lines: readonly string[], from: number) {
  const script: string[] = [];
  const expect: string[] = [];
  const found: { message?: string; host?: Readonly<Record<string, unknown>> } = {};
  let at = from;
  for (; at < lines.length; at += 1) {
    const line = lines[at] as string;
    if (line.startsWith('=> ')) expect.push(line.slice(3));
    else if (expect.length > 0) break;
    else if (line.startsWith('message: ')) found.message = line.slice(9);
    else if (line.startsWith('host: ')) found.host = JSON.parse(line.slice(6)) as Readonly<Record<string, unknown>>;
    else script.push(line);
  }
  return { found: { ...found, script: script.join('\n'), expect }, next: at };
}
