// Invariant I1: after 250, kill -9 at any instant loses no message and no recipient.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { plainNode } from '../../harness/plain-node.ts';
import { type Peer, startPeer } from '../relay/peers.ts';
import { tempFolder } from './fixtures.ts';

const child = path.join(import.meta.dirname, 'crash-child.js');

t.test('kill -9 under load: every recipient of every 250 gets the message', { timeout: 280_000 }, async t => {
  const folder = await tempFolder(t);
  // One next hop refuses now and then, so that the direct path, the queue and both together are hit.
  const steady = await startPeer(t, { extensions: ['PIPELINING', 'CHUNKING'] });
  const moody = await startPeer(t, {
    on: (verb, _line, peer) => (verb === 'MAIL' && peer.commands.length % 40 < 12 ? '421 4.3.2 not now' : undefined),
  });
  const accepted = new Map<string, readonly string[]>();
  let kills = 0;
  for (let round = 0; round < 6; round += 1) {
    const run = spawn(...plainNode(child, folder, `${steady.port}`, `${moody.port}`, `r${round}`, 'load'), {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(run, 'exit');
    const until = 60 + Math.floor(Math.random() * 120);
    let heard = 0;
    for await (const line of createInterface({ input: run.stdout })) {
      const [mark = '', recipients = ''] = line.split(' ');
      accepted.set(mark, recipients.split(','));
      heard += 1;
      if (heard === until && run.kill('SIGKILL')) kills += 1;
    }
    await ended;
  }
  const drain = spawn(...plainNode(child, folder, `${steady.port}`, `${moody.port}`, 'x', 'drain'), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = await once(drain.stdout, 'data');
  t.equal(String(said).trim(), 'empty');
  await once(drain, 'exit');
  const marksOf = (peer: Peer) => peer.bodies.map(body => /X-Mark: (\S+)/.exec(body)?.[1] ?? '?');
  const got = { 'a@one.test': marksOf(steady), 'a@two.test': marksOf(moody) };
  const lost = [...accepted].flatMap(([mark, recipients]) =>
    recipients.filter(each => !got[each as keyof typeof got].includes(mark)).map(each => `${mark} ${each}`),
  );
  t.same(lost, []);
  const copies = Object.values(got).reduce((sum, marks) => sum + marks.length - new Set(marks).size, 0);
  t.comment(`${accepted.size} accepted, ${kills} kills, ${lost.length} lost, ${copies} delivered twice`);
  // Two each of eight workers, and of the runner what two destinations get at once.
  t.ok(copies <= kills * (8 * 2 + 2 * 20), 'twice only what was under way when the process died');
  t.same(readdirSync(path.join(folder, 'queue')), [], 'no body is left behind');
});
