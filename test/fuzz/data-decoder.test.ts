// How the network cuts the bytes must never matter, and what comes out must be what a plain reading of the rules gives.

import t from 'tap';
import { DataDecoder, type DecoderOptions } from '../../core/smtp/data-decoder.ts';
import { fc } from '../harness/fuzz.ts';

const options: DecoderOptions = {
  dots: true,
  lineEnds: 'refuse',
  maxSize: 1_000_000,
  maxLine: 1_000_000,
  maxHeader: 1_000_000,
  nul: 'accept',
};

interface Result {
  readonly body: string;
  readonly ended: boolean;
  readonly rest: string;
  readonly defect: string | undefined;
  readonly headerEnd: number;
}

function decode(pieces: readonly Buffer[], given: DecoderOptions): Result {
  const decoder = new DataDecoder(given);
  const body: Buffer[] = [];
  let rest = '';
  for (const piece of pieces) {
    if (decoder.ended) {
      rest += piece.toString('latin1');
      continue;
    }
    const copy = Buffer.from(piece);
    // The output must be taken before the next chunk, as the receiver does.
    body.push(Buffer.from(decoder.decode(copy)));
    if (decoder.ended) rest += piece.toString('latin1', decoder.rest);
  }
  if (!given.dots) body.push(decoder.finish());
  const { ended, defect, headerEnd, size } = decoder;
  const text = Buffer.concat(body).toString('latin1');
  if (!defect && size !== text.length) throw new Error(`size ${size}, emitted ${text.length}`);
  return { body: defect ? '' : text, ended, rest, defect, headerEnd };
}

/** The rules once more, slowly. */
function reference(text: string, lineEnds: 'refuse' | 'normalise'): Result {
  const end = `\r\n${text}`.indexOf('\r\n.\r\n');
  const ended = end >= 0;
  const stuffed = ended ? text.slice(0, end) : text;
  const plain = `\r\n${stuffed}`.replace(/\r\n\./g, '\r\n').slice(2);
  const bare = /\r(?!\n)|(?<!\r)\n/.test(plain);
  const body = lineEnds === 'normalise' ? plain.replace(/\r+\n|\r|\n/g, '\r\n') : bare ? '' : plain;
  return {
    body,
    ended,
    rest: ended ? text.slice(end + 3) : '',
    defect: bare && lineEnds === 'refuse' ? 'bare-line-end' : undefined,
    headerEnd: body.startsWith('\r\n') ? 0 : body.includes('\r\n\r\n') ? body.indexOf('\r\n\r\n') + 2 : -1,
  };
}

function cut(text: string, cuts: readonly number[]): readonly Buffer[] {
  const bytes = Buffer.from(text, 'latin1');
  const places = [...new Set(cuts.map(place => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, index) => bytes.subarray(from, places[index] ?? bytes.length));
}

const nasty = fc
  .array(fc.constantFrom('\r', '\n', '.', '\r\n', '\r\n.', '\r\n..', '\r\n.\r', '.\n', 'a', '\0', 'text', '\r\n\r\n'), {
    maxLength: 30,
  })
  .map(parts => parts.join(''));
const cuts = fc.array(fc.nat(200), { maxLength: 8 });
// `fc.assert` throws with the shortest example.
const settings = { numRuns: 3000 };

t.test('refuse and normalise agree with the reference on every split', async () => {
  for (const lineEnds of ['refuse', 'normalise'] as const)
    fc.assert(
      fc.property(nasty, cuts, (content, places) => {
        const text = `${content}\r\n.\r\nQUIT\r\n`;
        const wanted = reference(text, lineEnds);
        const got = decode(cut(text, places), { ...options, lineEnds });
        // After a defect nothing is promised about the header section.
        const same = wanted.defect ? { ...wanted, headerEnd: got.headerEnd } : wanted;
        if (JSON.stringify(got) !== JSON.stringify(same))
          throw new Error(`${JSON.stringify(got)} for ${JSON.stringify(same)}`);
      }),
      settings,
    );
});

t.test('splits never matter to limits, NUL and chunks without dots', async () => {
  const given = fc.record({
    dots: fc.boolean(),
    lineEnds: fc.constantFrom('refuse', 'normalise', 'binary'),
    maxSize: fc.integer({ min: 0, max: 60 }),
    maxLine: fc.integer({ min: 2, max: 20 }),
    maxHeader: fc.integer({ min: 0, max: 40 }),
    nul: fc.constantFrom('refuse', 'accept'),
  }) as fc.Arbitrary<DecoderOptions>;
  fc.assert(
    fc.property(nasty, cuts, given, (content, places, each) => {
      const dots = each.dots && each.lineEnds !== 'binary';
      const text = dots ? `${content}\r\n.\r\n` : content;
      const whole = decode([Buffer.from(text, 'latin1')], { ...each, dots });
      const pieces = decode(cut(text, places), { ...each, dots });
      // Which of two defects is named may depend on where the first is noticed; that there is one may not.
      const plain = ({ body, ended, rest, defect }: Result) =>
        JSON.stringify({ body, ended, rest, wrong: defect !== undefined });
      if (plain(whole) !== plain(pieces)) throw new Error(`${plain(pieces)} for ${plain(whole)}`);
    }),
    settings,
  );
});

t.test('defects by name', async t => {
  const defect = (text: string, more: Partial<DecoderOptions> = {}) =>
    decode([Buffer.from(`${text}\r\n.\r\n`, 'latin1')], { ...options, nul: 'refuse', ...more }).defect;
  t.equal(defect('Subject: x\r\n\r\nbody'), undefined);
  for (const text of ['a\nb', 'a\rb', '\n.\n', '\n.\r\n', '\r.\r\n', '\r\n.\n', '\r\n.\r', 'a\r', '\r\r\n'])
    t.equal(defect(text), 'bare-line-end', JSON.stringify(text));
  t.equal(defect('a\0b'), 'nul');
  t.equal(defect('x'.repeat(999), { maxLine: 1000 }), 'line-too-long');
  t.equal(defect('x'.repeat(998), { maxLine: 1000 }), undefined);
  t.equal(defect(`X: ${'x'.repeat(100)}`, { maxHeader: 50 }), 'header-too-large', 'never ends');
  t.equal(defect(`X: 1\r\n\r\n${'x'.repeat(100)}`, { maxHeader: 50 }), undefined, 'the body is no header');
  t.equal(defect('x'.repeat(100), { maxSize: 100 }), 'too-big');
  t.equal(defect('x'.repeat(98), { maxSize: 100 }), undefined);
});
