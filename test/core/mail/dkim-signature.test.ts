import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { RelaxedBodyHash, relaxedField } from '../../../core/mail/dkim-signature.ts';

t.test('relaxed fields, RFC 6376 §3.4.2', async t => {
  for (const [field, canonical] of [
    ['A: X\r\n', 'a:X'],
    ['B : Y\t\r\n\tZ  \r\n', 'b:Y Z'],
    ['Subject:\r\n folded \t twice\r\n', 'subject:folded twice'],
    ['empty:\r\n', 'empty:'],
    ['X-A: b:c\r\n', 'x-a:b:c'],
    ['X: \xe4\xa0\r\n', 'x:\xe4\xa0'],
  ] as const)
    t.equal(relaxedField(Buffer.from(field, 'latin1')), canonical);
});

/** The rules of RFC 6376 §3.4.4 one after the other, over the whole body at once. */
function byTheBook(body: string): string {
  const text = body
    .replace(/\r?\n/g, '\r\n')
    .replace(/[ \t]+(?=\r\n|$)/g, '')
    .replace(/[ \t]+/g, ' ')
    .replace(/(?:\r\n)+$/, '');
  return createHash('sha256')
    .update(text === '' ? '' : `${text}\r\n`, 'latin1')
    .digest('base64');
}

t.test('relaxed bodies, RFC 6376 §3.4.4, however they are cut into chunks', async t => {
  const hashOf = (body: string, size: number): string => {
    const hash = new RelaxedBodyHash();
    const bytes = Buffer.from(body, 'latin1');
    for (let at = 0; at < bytes.length; at += size) hash.update(bytes.subarray(at, at + size));
    return hash.digest();
  };
  t.equal(hashOf('', 1), '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=', 'of nothing, as the standard has it');
  t.equal(hashOf(' \t\r\n\r\n', 1), hashOf('', 1));
  t.equal(hashOf(`a${'\r\n'.repeat(50_000)}b`, 70_000), byTheBook(`a${'\r\n'.repeat(50_000)}b`));
  const piece = fc.constantFrom('\r\n', '\r\n', ' ', '\t', 'a', '\xe4', '.', '\n');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), fc.integer({ min: 1, max: 7 }), (pieces, size) => {
      const body = pieces.join('');
      return hashOf(body, size) === byTheBook(body);
    }),
    { numRuns: 2_000, seed: 6376 },
  );
  t.pass();
});
