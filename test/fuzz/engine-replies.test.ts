// What engines answer comes from outside: whatever it is, it is either understood or an error, never a hang or a verdict
// out of nothing.
import t from 'tap';
import { parseEndpoint } from '../../core/lib/endpoint.ts';
import { matchesPattern } from '../../plugins/clamav/policy.ts';
import { parseVersion } from '../../plugins/clamav/scanner.ts';
import { ChangeCollector } from '../../plugins/milter/changes.ts';
import { encodePacket, PacketReader } from '../../plugins/milter/packets.ts';
import { parseReply as parseMilterReply } from '../../plugins/milter/reply.ts';
import { milterEdits, parseAnswer, symbolsOf } from '../../plugins/rspamd/answer.ts';
import { parseReply, symbolsOf as spamdSymbols, verdictOf } from '../../plugins/spamassassin/spamd-reply.ts';
import { fc } from '../harness/fuzz.ts';

const bytes = fc.uint8Array({ maxLength: 300 }).map(array => Buffer.from(array));
const attempt = <T>(run: () => T): T | undefined => {
  try {
    return run();
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
};
/** Bytes, and whole answers with something wrong in them. */
const spoilt = (whole: string) =>
  fc.oneof(
    bytes,
    fc
      .tuple(fc.nat(whole.length), fc.nat(whole.length), bytes)
      .map(([from, to, put]) =>
        Buffer.concat([
          Buffer.from(whole.slice(0, Math.min(from, to))),
          put,
          Buffer.from(whole.slice(Math.max(from, to))),
        ]),
      ),
  );

t.test('spamd', async t => {
  const whole = 'SPAMD/1.1 0 EX_OK\r\nContent-length: 9\r\nSpam: True ; 7.1 / 5.0\r\n\r\nGTUBE,ABC';
  fc.assert(
    fc.property(spoilt(whole), answer => {
      const reply = attempt(() => parseReply(answer));
      if (!reply) return;
      const verdict = attempt(() => verdictOf(reply));
      if (verdict) t.ok(Number.isFinite(verdict.score) && Number.isFinite(verdict.required));
      for (const name of spamdSymbols(reply)) t.match(name, /^\w+$/);
    }),
  );
});

t.test('rspamd', async t => {
  const whole = JSON.stringify({
    score: 1,
    required_score: 15,
    action: 'no action',
    symbols: { A: { score: 1 } },
    milter: { add_headers: { 'X-A': { value: 'b', order: 1 } }, remove_headers: { 'X-B': 0 } },
  });
  fc.assert(
    fc.property(
      fc.oneof(
        spoilt(whole),
        fc.json().map(text => Buffer.from(text)),
      ),
      answer => {
        const parsed = attempt(() => parseAnswer(answer));
        if (!parsed) return;
        symbolsOf(parsed);
        for (const edit of milterEdits(parsed, ['*']))
          if ('value' in edit) t.notMatch(edit.value, /\n(?![\t ])|\r(?!\n)|\0/);
      },
    ),
  );
});

t.test('clamd and endpoints', async t => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      parseVersion(a);
      parseVersion(`ClamAV ${a}/${b}`);
      const endpoint = parseEndpoint(a);
      if (endpoint?.kind === 'tcp') t.ok(endpoint.port > 0 && endpoint.port < 65_536);
      t.equal(matchesPattern(a, '*'), true);
      t.equal(
        matchesPattern(`${a}x${b}`.replaceAll('*', ''), `${a.replaceAll('*', '')}*${b.replaceAll('*', '')}`),
        true,
      );
    }),
  );
});

t.test('milters', async t => {
  fc.assert(
    fc.property(bytes, fc.constantFrom(...'+2-ehimbqacrtdyspOZ'), fc.string(), (data, code, text) => {
      const reader = new PacketReader();
      reader.push(data);
      attempt(() => reader.next());
      const collector = new ChangeCollector({ leadingSpace: true, maxBodyBytes: 100, hidden: () => 0 });
      attempt(() => collector.take({ code, data }));
      for (const edit of collector.result().edits) if ('value' in edit) t.notMatch(edit.value, /\n(?![\t ])|\0/);
      const answer = attempt(() => parseMilterReply(text, true, 'x'));
      if (answer) t.match(answer.reply.text, /^[\x20-\x7e]+$/);
      t.same(encodePacket(code, data).length, data.length + 5);
    }),
  );
});
