// Kept mail: what is durable, what is found, what goes when, and what a failing disk leaves behind.
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { gatewayOptions } from '../../../core/config/gateway-options.ts';
import { type FileOps, systemFileOps } from '../../../core/lib/atomic-file.ts';
import { type Clock, systemClock } from '../../../core/lib/clock.ts';
import { quarantineReasons } from '../../../core/mail/deliverable.ts';
import { bufferRope, fileRope, ropeBytes } from '../../../core/mail/rope.ts';
import type { NewKeptMail } from '../../../core/quarantine/kept-mail.ts';
import { unreleased } from '../../../core/quarantine/kept-mail.ts';
import { type KeptMailOptions, openKeptMail } from '../../../core/quarantine/store.ts';
import { StateError } from '../../../core/state/state.ts';
import { address, rcpt } from '../queue/fixtures.ts';
import { openKept, openStore } from '../queue/shared-store.ts';

const hour = 3_600_000;
const body = (text: string): Buffer => Buffer.from(`Subject: kept\r\n\r\n${text}\r\n`);

function mail(id: string, more: Partial<NewKeptMail> & { readonly to?: readonly string[] } = {}): NewKeptMail {
  const { to = ['bob@example.org'], ...rest } = more;
  return {
    id,
    message: id,
    reason: 'spam',
    plugin: 'score',
    why: 'Sum 12 reaches quarantine',
    receivedAt: 1_000_000,
    subject: 'Cheap watches',
    messageId: `<${id}@example.net>`,
    facts: {
      sender: address('Stranger@Example.net'),
      recipients: to.map(each => rcpt(each)),
      originals: {},
      envelope: { smtputf8: false, requireTls: false },
      client: { address: '192.0.2.7' },
    },
    form: bufferRope(body(id)),
    ...rest,
  };
}

/** Stands still at `now`. */
const stillClock = (now: number): Clock => ({ now: () => now, monotonic: () => now, after: () => () => undefined });

const options = (folder: string): Omit<KeptMailOptions, 'state'> => ({
  folder: path.join(folder, 'quarantine'),
  clock: systemClock,
  limits: () => ({ retentionMs: hour, reasons: {}, maxBytes: 1_000_000 }),
  warn: () => undefined,
});

t.test('what is kept is found by everything that one asks for, and is whole', async t => {
  const { state, folder } = await openStore(t);
  const kept = await openKept(t, state, folder);
  const spool = path.join(folder, 'spooled');
  writeFileSync(spool, `xx${'y'.repeat(300_000)}zz`);
  await kept.keep(mail('Q1', { to: ['bob@example.org', 'Carol@example.org'] }));
  await kept.keep(mail('Q2', { reason: 'virus', plugin: 'clamav', receivedAt: 2_000_000, subject: 'Invoice 50%' }));
  await kept.keep(
    mail('Q3.original', {
      message: 'Q3',
      receivedAt: 3_000_000,
      facts: { ...mail('x').facts, sender: null },
      form: { size: 300_002, pieces: [Buffer.from('h\n'), ...fileRope(spool, 2, 300_002).pieces] },
    }),
  );
  const ids = async (query: Parameters<typeof kept.search>[0]) => (await kept.search(query)).map(({ id }) => id);
  t.same(await ids({}), ['Q3.original', 'Q2', 'Q1'], 'newest first');
  t.same(await ids({ order: 'oldest', limit: 1 }), ['Q1']);
  t.same(await ids({ order: 'oldest', beyond: { receivedAt: 1_000_000, id: 'Q1' } }), ['Q2', 'Q3.original']);
  t.same(await ids({ beyond: { receivedAt: 2_000_000, id: 'Q2' } }), ['Q1']);
  t.same(await ids({ reason: 'virus' }), ['Q2']);
  t.same(await ids({ plugin: 'clamav' }), ['Q2']);
  t.same(await ids({ sender: 'STRANGER@example.NET' }), ['Q2', 'Q1']);
  t.same(await ids({ sender: '' }), ['Q3.original']);
  t.same(await ids({ recipient: 'carol@example.org' }), ['Q1']);
  t.same(await ids({ recipient: '@example.org', from: 1_500_000, to: 2_500_000 }), ['Q2']);
  t.same(await ids({ subject: '50%' }), ['Q2']);
  t.same(await ids({ subject: '5_%' }), [], 'no wild cards but *');
  t.same(await ids({ messageId: '<Q1*' }), ['Q1']);
  t.same(await ids({ client: '192.0.2.*', message: 'Q3' }), ['Q3.original']);
  const [last] = await kept.search({ message: 'Q3' });
  const bytes = last && (await ropeBytes(kept.form(last)));
  t.equal(bytes?.length, 300_002);
  t.equal(bytes?.toString('latin1', 0, 4), 'h\nyy');
  t.match(await kept.counts(), { messages: 3, reasons: { spam: 2, virus: 1 } });
  t.equal(await kept.remove(['Q1', 'nothing']), 1);
  t.same(readdirSync(path.join(folder, 'quarantine')).sort(), ['Q2.eml', 'Q3.original.eml']);
  t.equal(await kept.find('Q1'), undefined);
});

t.test('a recipient is released once, all of a release or none', async t => {
  const { state, folder } = await openStore(t);
  const kept = await openKept(t, state, folder);
  await kept.keep(mail('Q1', { to: ['bob@example.org', 'BOB@example.org', 'carol@example.org'] }));
  const release = (...addresses: string[]) =>
    state.write(
      kept.releaseStatements(
        'Q1',
        addresses.map(each => ({ address: each, at: 5, queueId: 'R1' })),
      ),
    );
  const open = async (only?: readonly string[]) => {
    const found = await kept.find('Q1');
    return found ? unreleased(found, only).map(each => each.address.text) : [];
  };
  t.same(await open(), ['bob@example.org', 'carol@example.org'], 'each once');
  await release('Bob@example.org');
  t.same(await open(), ['carol@example.org']);
  t.same(await open(['BOB@EXAMPLE.ORG']), []);
  await t.rejects(release('carol@example.org', 'bob@example.org'), { code: 'constraint' });
  t.same(await open(), ['carol@example.org'], 'nothing of the one that failed');
  t.match(await kept.search({ released: true }), [
    { id: 'Q1', releases: [{ address: 'bob@example.org', queueId: 'R1' }] },
  ]);
  t.same(await kept.search({ released: false }), []);
});

t.test('retention by reason, then size, oldest first; files go with their rows', async t => {
  const { state, folder } = await openStore(t);
  const now = 100 * hour;
  const warnings: unknown[] = [];
  let maxBytes = 1_000_000;
  const kept = await openKept(t, state, folder, {
    clock: stillClock(now),
    limits: () => ({ retentionMs: 48 * hour, reasons: { virus: 2 * hour, forged: 90 * hour }, maxBytes }),
    warn: (message, details) => warnings.push({ message, ...details }),
  });
  const big = { form: bufferRope(Buffer.alloc(1000)) };
  await kept.keep(mail('old-spam', { ...big, receivedAt: now - 49 * hour }));
  await kept.keep(mail('young-spam', { ...big, receivedAt: now - 47 * hour }));
  await kept.keep(mail('old-virus', { ...big, reason: 'virus', receivedAt: now - 3 * hour }));
  await kept.keep(mail('young-virus', { ...big, reason: 'virus', receivedAt: now - hour }));
  await kept.keep(mail('forged', { ...big, reason: 'forged', receivedAt: now - 80 * hour }));
  t.same(await kept.prune(), { expired: 2, squeezed: 0 });
  t.same(
    (await kept.search({})).map(({ id }) => id),
    ['young-virus', 'young-spam', 'forged'],
  );
  maxBytes = 1500;
  t.same(await kept.prune(), { expired: 0, squeezed: 2 });
  t.same(readdirSync(path.join(folder, 'quarantine')), ['young-virus.eml']);
  t.match(warnings, [{ message: /size limit/, removed: 2 }]);
});

t.test('what is kept while the sum is taken counts for the limit', async t => {
  const { state, folder } = await openStore(t);
  let counted = (): void => undefined;
  let hold: Promise<void> | undefined;
  const slow: typeof state = {
    migrate: (...given) => state.migrate(...given),
    write: statements => state.write(statements),
    async query(...given) {
      const rows = await state.query(...given);
      if (!given[0].includes('GROUP BY reason')) return rows;
      counted();
      await hold;
      return rows;
    },
    close: () => state.close(),
  };
  const limits = () => ({ retentionMs: hour, reasons: {}, maxBytes: 1_000 });
  const kept = await openKept(t, slow, folder, { clock: stillClock(1_000_000), limits });
  const large = { form: bufferRope(Buffer.alloc(600, 'x')) };
  const isCounted = new Promise<void>(resolve => {
    counted = resolve;
  });
  let proceed = (): void => undefined;
  hold = new Promise(resolve => {
    proceed = resolve;
  });
  kept.start();
  await isCounted;
  await kept.keep(mail('Q1', large));
  proceed();
  await kept.keep(mail('Q2', { ...large, receivedAt: 1_000_001 }));
  // What is next to nothing may come often, until the first look is over.
  const small = { form: bufferRope(Buffer.from('x')), receivedAt: 1_000_002 };
  for (let times = 0; times < 100 && (await kept.find('Q1')); times++) await kept.keep(mail(`S${times}`, small));
  t.notOk(await kept.find('Q1'), 'the oldest had to go');
  t.ok(await kept.find('Q2'));
});

t.test('many that are too old go page by page', async t => {
  const { state, folder } = await openStore(t);
  const kept = await openKept(t, state, folder, { clock: stillClock(10_000 * hour) });
  await Promise.all(Array.from({ length: 450 }, (_, n) => kept.keep(mail(`Q${n}`, { receivedAt: n }))));
  t.same(await kept.prune(), { expired: 450, squeezed: 0 });
  t.same(readdirSync(path.join(folder, 'quarantine')), []);
});

t.test('a full or broken disk: the caller hears of it and nothing is left', async t => {
  const { state, folder } = await openStore(t);
  let failing: keyof FileOps | 'sync' | undefined;
  const full = (): Error => Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  const files: FileOps = {
    ...systemFileOps,
    async open(file, flags, mode) {
      if (failing === 'open') throw full();
      const handle = await open(file, flags, mode);
      if (failing !== 'sync') return handle;
      return {
        write: handle.write.bind(handle),
        close: handle.close.bind(handle),
        sync: () => Promise.reject(full()),
      };
    },
    async rename(from, to) {
      if (failing === 'rename') throw full();
      await rename(from, to);
    },
  };
  const kept = await openKept(t, state, folder, { files });
  for (const operation of ['open', 'sync', 'rename'] as const) {
    failing = operation;
    await t.rejects(kept.keep(mail('Q1')), { code: 'ENOSPC' }, operation);
    failing = undefined;
    t.equal(await kept.find('Q1'), undefined);
    t.same(readdirSync(path.join(folder, 'quarantine')), []);
  }
  const rejecting = await openKeptMail({
    ...options(folder),
    state: {
      query: (sql, params) => state.query(sql, params),
      migrate: (component, migrations) => state.migrate(component, migrations),
      write: () => Promise.reject(new StateError('full', 'database or disk is full')),
      close: async () => undefined,
    },
  });
  await t.rejects(rejecting.keep(mail('Q2')), { code: 'full' });
  t.same(readdirSync(path.join(folder, 'quarantine')), [], 'no file without a row');
});

t.test('what a crash left is swept after a while; a body that is gone says so', async t => {
  const { state, folder } = await openStore(t);
  const place = path.join(folder, 'quarantine');
  const young = await openKept(t, state, folder);
  await young.keep(mail('Q1'));
  for (const name of ['lost.eml', '.Q9.eml.1.x.0.tmp', 'notes.txt']) writeFileSync(path.join(place, name), 'x');
  t.equal(await young.sweep(), 0, 'may belong to a commit under way');
  const later = await openKeptMail({ ...options(folder), state, clock: stillClock(Date.now() + 2 * hour) });
  t.equal(await later.sweep(), 2);
  t.same(readdirSync(place).sort(), ['Q1.eml', 'notes.txt']);
  rmSync(path.join(place, 'Q1.eml'));
  const found = await young.find('Q1');
  await t.rejects(async () => found && ropeBytes(young.form(found)), { code: 'ENOENT' });
});

t.test('the reasons of the configuration are those of the verdicts', async t => {
  for (const reason of quarantineReasons) {
    const parsed = gatewayOptions.shape.quarantine.safeParse({ reasons: { [reason]: '1d' } });
    t.ok(parsed.success, reason);
  }
  t.notOk(gatewayOptions.shape.quarantine.safeParse({ reasons: { weather: '1d' } }).success);
});
