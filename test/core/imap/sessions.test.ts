// Several clients on one mailbox at once, doing random things. Each believes what it is told and nothing else: its own
// count and numbering, kept from EXISTS, EXPUNGE and FETCH alone, must be the server's whenever it looks (RFC 3501 §7.4).
import { connect } from 'node:net';
import t from 'tap';
import { type ImapAnswer, ImapClient } from '../../harness/imap-client.ts';
import { type ImapFixture, startImap } from './imap-fixture.ts';
import { plainMessage } from './sample-messages.ts';

/** Small and seeded, so that a failure can be run again. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return below => {
    state = (state * 1_103_515_245 + 12_345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * below);
  };
}

class Believer {
  readonly name: string;
  readonly client: ImapClient;
  private readonly random: (below: number) => number;
  /** UID by sequence number minus one; undefined where not told. */
  private uids: (number | undefined)[] = [];
  private count = 0;
  readonly wrong: string[] = [];

  constructor(name: string, client: ImapClient, random: (below: number) => number) {
    this.name = name;
    this.client = client;
    this.random = random;
  }

  private note(command: string, problem: string): void {
    this.wrong.push(`${this.name} ${command}: ${problem}`);
  }

  async do(command: string, ...literals: readonly Buffer[]): Promise<ImapAnswer> {
    const answer = await this.client.command(command, ...literals);
    if (answer.status.startsWith('BAD')) this.note(command, answer.status);
    const keepsNumbers = /^(?:FETCH|STORE|SEARCH)/.test(command);
    for (const [first, kind, items] of answer.untagged) {
      if (first === 'VANISHED' && typeof kind === 'string') {
        if (keepsNumbers) this.note(command, 'VANISHED while numbers must stay');
        this.vanished(command, kind);
      }
      if (kind === 'EXISTS') this.exists(command, Number(first));
      else if (kind === 'EXPUNGE') {
        if (keepsNumbers) this.note(command, 'EXPUNGE while numbers must stay');
        this.expunged(command, Number(first));
      } else if (kind === 'FETCH' && Array.isArray(items)) this.told(command, Number(first), items);
    }
    return answer;
  }

  private exists(command: string, count: number): void {
    if (count < this.count) this.note(command, `EXISTS ${count} below ${this.count}`);
    this.count = count;
    while (this.uids.length < count) this.uids.push(undefined);
  }

  private expunged(command: string, seq: number): void {
    if (seq < 1 || seq > this.count) this.note(command, `EXPUNGE ${seq} of ${this.count}`);
    this.uids.splice(seq - 1, 1);
    this.count -= 1;
  }

  /** RFC 7162 §3.2.10.2: each UID is one message less. */
  private vanished(command: string, set: string): void {
    for (const range of set.split(',')) {
      const [first = 0, last = first] = range.split(':').map(Number);
      for (let uid = first; uid <= last; uid += 1) {
        const below = this.uids.findLastIndex(known => known !== undefined && known < uid);
        const at = this.uids.includes(uid) ? this.uids.indexOf(uid) : this.uids.indexOf(undefined, below + 1);
        if (at < 0) this.note(command, `VANISHED ${uid} of ${JSON.stringify(this.uids)}`);
        else this.expunged(command, at + 1);
      }
    }
  }

  private told(command: string, seq: number, items: readonly unknown[]): void {
    if (seq < 1 || seq > this.count) this.note(command, `FETCH ${seq} of ${this.count}`);
    const at = items.indexOf('UID');
    if (at < 0) return;
    const uid = Number(items[at + 1]);
    const known = this.uids[seq - 1];
    if (known !== undefined && known !== uid) this.note(command, `${seq} was UID ${known}, is ${uid}`);
    this.uids[seq - 1] = uid;
  }

  async select(): Promise<void> {
    this.uids = [];
    this.count = 0;
    await this.do('SELECT INBOX');
  }

  private seq = (): number => 1 + this.random(Math.max(1, this.count));

  async step(): Promise<void> {
    const some = `${this.seq()}:${this.seq()}`;
    const flag = ['\\Seen', '\\Deleted', '\\Flagged', 'Work', '\\Deleted'][this.random(5)] ?? '';
    const steps: readonly (() => Promise<unknown>)[] = [
      () => this.do('NOOP'),
      () => this.do('APPEND INBOX {}', Buffer.from(plainMessage(1 + this.random(9)))),
      () => this.do('EXPUNGE'),
      () => this.do(`UID STORE 1:* +FLAGS (Note${this.random(3)})`),
      () => this.do('UID FETCH 1:* FLAGS'),
      () => this.do('UID SEARCH UNDELETED'),
      () => this.do('SEARCH ALL'),
      () => this.select(),
      ...(this.count === 0
        ? []
        : [
            () => this.do(`FETCH ${some} (UID FLAGS)`),
            () => this.do(`FETCH ${this.seq()} (UID BODY[TEXT])`),
            () => this.do(`STORE ${some} +FLAGS (${flag})`),
            () => this.do(`STORE ${this.seq()} -FLAGS.SILENT (${flag})`),
            () => this.do(`COPY ${this.seq()} INBOX`),
            () => this.do(`MOVE ${this.seq()} Other`),
            () => this.do(`STORE ${this.seq()} +FLAGS.SILENT (\\Deleted)`),
          ]),
    ];
    await steps[this.random(steps.length)]?.();
  }

  /** Asks for everything: what the server says must be what is believed. */
  async compare(): Promise<readonly (number | undefined)[]> {
    await this.do('NOOP');
    if (this.count > 0) await this.do('FETCH 1:* UID');
    return this.uids;
  }
}

async function believer(fixture: ImapFixture, name: string, seed: number): Promise<Believer> {
  const client = new ImapClient(connect(fixture.port, '127.0.0.1'));
  await client.line();
  await client.ok('LOGIN alice secret');
  const made = new Believer(name, client, randomOf(seed));
  await made.select();
  return made;
}

for (const seed of [1, 2, 3])
  t.test(`everyone is told everything (${seed})`, async t => {
    const fixture = await startImap();
    t.teardown(() => fixture.close());
    const clients = await Promise.all(['a', 'b', 'c', 'd'].map((name, i) => believer(fixture, name, seed * 100 + i)));
    await clients[0]?.do('CREATE Other');
    // Half of them are told of removals by UID.
    for (const client of clients.slice(2)) await client.do('ENABLE QRESYNC');
    for (let n = 1; n <= 10; n += 1) await clients[0]?.do('APPEND INBOX {}', Buffer.from(plainMessage(n)));
    for (let round = 0; round < 4; round += 1) {
      await Promise.all(
        clients.map(async client => {
          for (let step = 0; step < 40; step += 1) await client.step();
        }),
      );
      const views = [];
      for (const client of clients) views.push(await client.compare());
      for (const view of views) t.strictSame(view, views[0]);
    }
    t.strictSame(
      clients.flatMap(client => client.wrong),
      [],
    );
    for (const { client } of clients) client.close();
    t.strictSame(fixture.complaints, []);
  });
