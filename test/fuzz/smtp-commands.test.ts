// The command grammar and the input cutter against arbitrary bytes: no throw, no lost or doubled byte, and the network's
// cuts change nothing.

import t from 'tap';
import { hasControls, parseParameters, pathEnd, splitCommand, xtextValue } from '../../core/smtp/command-line.ts';
import { type BodySink, SmtpInput } from '../../core/smtp/input.ts';
import { readPath } from '../../core/smtp/path-argument.ts';
import { fc } from '../harness/fuzz.ts';

const settings = { numRuns: 3000 };
const junk = fc
  .array(
    fc.constantFrom(
      '<',
      '>',
      '"',
      '\\',
      '@',
      ' ',
      '=',
      '+',
      '\t',
      'a',
      'SIZE',
      '\0',
      '\u00e4',
      ':',
      ',',
      '[',
      ']',
      '.',
      '+0D',
      'xn--',
    ),
    { maxLength: 25 },
  )
  .map(parts => parts.join(''));

t.test('grammar', async t => {
  fc.assert(
    fc.property(junk, text => {
      const { verb, args } = splitCommand(text);
      if (/\s/.test(verb) || verb !== verb.toUpperCase() || args !== args.trim()) throw new Error(`${verb}|${args}`);
      const end = pathEnd(text);
      if (end > text.length || (end >= 0 && text[end - 1] !== '>')) throw new Error(`path end ${end}`);
      const parameters = parseParameters(text);
      if (parameters.kind === 'ok')
        for (const [key, value] of parameters.values)
          if (!/^[A-Z0-9-]+$/.test(key) || (value !== undefined && /[\s=]/.test(value)))
            throw new Error(`${key}=${value}`);
      const decoded = xtextValue(text);
      if (decoded !== undefined && hasControls(decoded)) throw new Error('control character');
      const latin = Buffer.from(`FROM:${text}`, 'utf8').toString('latin1');
      const path = readPath(latin, 5);
      if (path.kind === 'ok' && path.address && hasControls(path.address.text))
        throw new Error('control character in an address');
    }),
    settings,
  );
  t.equal(pathEnd('<"a>\\"b"@c> SIZE=1'), 11);
  t.equal(pathEnd('<a@b> <c@d>'), 5);
  t.equal(pathEnd('<"a>@b'), -1);
});

/** What comes out of the cutter: lines, long lines, bodies. `BODY n` takes n bytes; some lines work for a while. */
async function run(pieces: readonly Buffer[], maxLine: number): Promise<string> {
  const seen: string[] = [];
  let told = 0;
  const sink = (length: number): BodySink => {
    let left = length;
    return {
      take(chunk) {
        const used = Math.min(left, chunk.length);
        left -= used;
        seen.push(chunk.toString('latin1', 0, used));
        return { used, done: left === 0, wait: used % 2 === 1 ? Promise.resolve() : undefined };
      },
      finished: () => void seen.push('</body>'),
    };
  };
  const input: SmtpInput = new SmtpInput(
    {
      line(line) {
        const text = line.toString('latin1');
        seen.push(`[${text}]`);
        const body = /^BODY (\d)$/.exec(text);
        if (body) input.startBody(sink(Number(body[1])));
        return text.length % 3 === 0 ? Promise.resolve() : undefined;
      },
      lineTooLong: () => void seen.push('[too long]'),
      // As replies to be written: once for what was seen.
      drained() {
        const news = seen.length > told && seen.length % 5 === 0;
        told = seen.length;
        return news ? Promise.resolve() : undefined;
      },
      waiting: () => undefined,
    },
    maxLine,
  );
  input.release();
  for (const piece of pieces) await new Promise<void>(resolve => input.feed(Buffer.from(piece), resolve));
  return seen.join('');
}

t.test('cuts never matter', async () => {
  const stream = fc
    .array(
      fc.constantFrom(
        '\n',
        '\r\n',
        '\r',
        'NOOP\r\n',
        'a',
        'BODY 0\r\n',
        'BODY 5\r\n',
        'BODY 9\r\n',
        'a longer line than that\r\n',
        '\0',
      ),
      { maxLength: 20 },
    )
    .map(parts => parts.join(''));
  await fc.assert(
    fc.asyncProperty(stream, fc.array(fc.nat(150), { maxLength: 8 }), async (text, cuts) => {
      const bytes = Buffer.from(text, 'latin1');
      const places = [...new Set(cuts.map(place => place % (bytes.length + 1)))].sort((a, b) => a - b);
      const pieces = [0, ...places]
        .map((from, index) => bytes.subarray(from, places[index] ?? bytes.length))
        .filter(piece => piece.length > 0);
      const whole = await run([bytes], 16);
      const cut = await run(pieces, 16);
      if (whole !== cut) throw new Error(`${JSON.stringify(cut)} for ${JSON.stringify(whole)}`);
    }),
    settings,
  );
});
