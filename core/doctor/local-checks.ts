// What can be looked at on this machine: Node.js, ports, certificate, disk, clock, queue.
import { X509Certificate } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, open, rm, stat, statfs } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { hostname as machineName } from 'node:os';
import path from 'node:path';
import { connect as connectTls } from 'node:tls';
import type { Logger } from 'pino';
import { maildropFolder } from '../compose/maildrop.ts';
import { dataFolder, openQueueAlone } from '../compose/stores.ts';
import type { ListenerOptions } from '../config/gateway-options.ts';
import type { LoadedConfig } from '../config/load.ts';
import type { Clock } from '../lib/clock.ts';
import { type Finding, findings } from './finding.ts';

const days = 86_400_000;

// ---- Node.js

/** When a release line has its last security fix, by the schedule of the Node.js project. */
const nodeEnds: Readonly<Record<string, string>> = {
  20: '2026-04-30',
  22: '2027-04-30',
  24: '2028-04-30',
  26: '2029-04-30',
};

/** `version` as `process.version` gives it; `now` in ms since the epoch. */
export function checkNode(version: string, now: number): readonly Finding[] {
  const { ok, warn } = findings('node');
  const end = nodeEnds[/^v(\d+)\./.exec(version)?.[1] ?? ''];
  if (end === undefined) return [ok(version, 'runs')];
  if (now < Date.parse(end)) return [ok(version, `has security fixes until ${end}`)];
  return [
    warn(
      version,
      `has had no security fixes since ${end}`,
      'Install Node.js 24 or 26, which also take less CPU a message',
    ),
  ];
}

// ---- ports

const greetings: Readonly<Record<ListenerOptions['role'], RegExp>> = {
  smtp: /^220 /,
  submission: /^220 /,
  lmtp: /^220 /,
  imap: /^\* OK/,
  pop3: /^\+OK/,
  managesieve: /^(?:"|OK)/,
};

/** The first line that a listener says, or why there is none. */
function greeting({ address, port, tls }: ListenerOptions, clock: Clock): Promise<string | Error> {
  return new Promise(resolve => {
    const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
    const socket = tls === 'implicit' ? connectTls({ host, port, rejectUnauthorized: false }) : connect(port, host);
    const finish = (result: string | Error): void => {
      cancel();
      socket.destroy();
      resolve(result);
    };
    const cancel = clock.after(10_000, () => finish(new Error('it says nothing')));
    socket.once('error', finish);
    socket.once('data', (line: Buffer) => finish(line.toString('latin1').split('\r\n', 1)[0] ?? ''));
  });
}

/** Whether the port could be had: `undefined`, or the code of the error. */
function bindFault({ address, port }: ListenerOptions): Promise<string | undefined> {
  return new Promise(resolve => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}

export async function checkPorts(config: LoadedConfig, running: boolean, clock: Clock): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('ports');
  const listeners = config.options.listeners.filter(each => each.port !== 0 && !path.isAbsolute(each.address));
  return Promise.all(
    listeners.map(async listener => {
      const subject = `${listener.name} ${listener.address}:${listener.port}`;
      if (running) {
        const said = await greeting(listener, clock);
        if (said instanceof Error)
          return fail(
            subject,
            `does not answer: ${said.message}`,
            "'postern status' shows what listens; 'postern reload' or a restart opens it",
          );
        if (!greetings[listener.role].test(said))
          return fail(
            subject,
            `answers '${said.slice(0, 60)}'`,
            `Another program has this port; find it with: ss -ltnp 'sport = :${listener.port}'`,
          );
        return ok(subject, said.slice(0, 60));
      }
      const code = await bindFault(listener);
      if (code === undefined) return ok(subject, 'free');
      if (code === 'EACCES')
        return fail(
          subject,
          'not allowed for this user',
          'Give the service AmbientCapabilities=CAP_NET_BIND_SERVICE, as the README shows',
        );
      if (code === 'EADDRINUSE')
        return fail(
          subject,
          'another program has it',
          `Stop that program (Postfix? Exim?); find it with: ss -ltnp 'sport = :${listener.port}'`,
        );
      return warn(subject, code, `Is ${listener.address} an address of this machine?`);
    }),
  );
}

// ---- certificate

export function checkCertificates(config: LoadedConfig, now: number): readonly Finding[] {
  const { ok, warn, fail } = findings('certificate');
  const hostname = config.options.hostname ?? machineName();
  const given = config.options.tls.certificates.map(each => path.resolve(config.folder, each.certificate));
  const files = given.length > 0 ? given : [path.join(dataFolder(config), 'tls', 'cert.pem')];
  const read = files.map(file => {
    try {
      return { file, certificate: new X509Certificate(readFileSync(file)) };
    } catch (error) {
      return { file, error: error as NodeJS.ErrnoException };
    }
  });
  const found = read.map(({ file, certificate, error }): Finding => {
    if (error?.code === 'ENOENT' && given.length === 0)
      return warn(
        file,
        'not made yet: a self-signed one comes with the first start',
        'Get one that the world trusts (certbot) and name it under tls.certificates',
      );
    if (!certificate)
      return fail(file, String(error?.message), 'The user of the gateway must be able to read it; it must be PEM');
    const left = Date.parse(certificate.validTo) - now;
    const until = `until ${new Date(certificate.validTo).toISOString().slice(0, 10)}`;
    if (left < 0) return fail(file, `expired, ${until}`, 'Renew it; the gateway takes the new file without a restart');
    if (certificate.subject === certificate.issuer)
      return warn(
        file,
        `self-signed, ${until}`,
        'Get one that the world trusts (certbot) and name it under tls.certificates',
      );
    if (left < 14 * days)
      return warn(file, `only ${Math.floor(left / days)} days left`, 'Renew it; does the renewal run?');
    return ok(file, until);
  });
  const named = read.some(({ certificate }) => certificate?.checkHost(hostname) !== undefined);
  if (read.some(({ certificate }) => certificate) && !named)
    found.push(
      fail(
        hostname,
        'no certificate names it',
        `Get one for ${hostname}, or set hostname to the name in the certificate`,
      ),
    );
  return found;
}

// ---- disk

const mebibytes = (bytes: number): string =>
  bytes >= 10 * 1024 ** 3 ? `${Math.round(bytes / 1024 ** 3)} GiB` : `${Math.round(bytes / 1_048_576)} MiB`;

async function syncMs(folder: string, clock: Clock): Promise<number> {
  const scratch = await mkdtemp(path.join(folder, 'doctor-'));
  try {
    const handle = await open(path.join(scratch, 'sync'), 'w');
    try {
      await handle.writeFile(Buffer.alloc(16_384, 'x'));
      const begun = clock.monotonic();
      await handle.sync();
      return clock.monotonic() - begun;
    } finally {
      await handle.close();
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

export async function checkDisk(config: LoadedConfig, clock: Clock): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('disk');
  const folder = dataFolder(config);
  const facts = await stat(folder).catch((error: NodeJS.ErrnoException) => error);
  if (facts instanceof Error)
    return facts.code === 'ENOENT'
      ? [
          warn(
            folder,
            'is not there yet',
            `The first start makes it; its parent must let the user of the gateway do so`,
          ),
        ]
      : [fail(folder, facts.message, 'The user of the gateway must own it')];
  const found: Finding[] = [];
  found.push(
    (facts.mode & 0o077) === 0
      ? ok(folder, 'for its owner only')
      : warn(folder, `others may enter it (mode ${(facts.mode & 0o7777).toString(8)})`, `chmod 700 ${folder}`),
  );
  const { bavail, bsize, files, ffree } = await statfs(folder);
  const free = bavail * bsize;
  const space = `${mebibytes(free)} free`;
  if (free < 100 * 1_048_576) found.push(fail('space', space, 'Make room: mail is deferred when the disk is full'));
  else if (free < 1024 ** 3) found.push(warn('space', space, 'Make room before mail must be deferred'));
  else found.push(ok('space', space));
  if (files > 0 && ffree / files < 0.02)
    found.push(
      warn('inodes', `${ffree} of ${files} free`, 'A Maildir needs one for each message: make a file system with more'),
    );
  try {
    const ms = await syncMs(folder, clock);
    const detail = `fsync takes ${ms.toFixed(1)} ms`;
    found.push(
      ms > 250
        ? warn(
            'fsync',
            detail,
            'Each message waits so long: a faster disk, or one with a write cache that survives a power cut',
          )
        : ok('fsync', detail),
    );
  } catch (error) {
    found.push(
      fail(folder, (error as Error).message, 'Run doctor as the user of the gateway, who must be able to write here'),
    );
  }
  return found;
}

// ---- clock

/** RFC 4330 §5: seconds since 1900 in the transmit time of the answer. */
function askTime(host: string, port: number, clock: Clock): Promise<number | Error> {
  return new Promise(resolve => {
    const socket = createSocket('udp4');
    let isOver = false;
    const finish = (result: number | Error): void => {
      // The name of the server may be looked up for longer than we wait.
      if (isOver) return;
      isOver = true;
      cancel();
      socket.close();
      resolve(result);
    };
    const cancel = clock.after(3_000, () => finish(new Error('no answer')));
    socket.once('error', finish);
    socket.once('message', bytes => {
      if (bytes.length < 48) return finish(new Error('no time in the answer'));
      const seconds = bytes.readUInt32BE(40) - 2_208_988_800;
      finish((seconds + bytes.readUInt32BE(44) / 2 ** 32) * 1000);
    });
    const request = Buffer.alloc(48);
    request[0] = 0x23;
    socket.send(request, port, host, error => {
      if (error) finish(error);
    });
  });
}

export async function checkClock(server: string, clock: Clock): Promise<readonly Finding[]> {
  const { ok, warn, fail, skip } = findings('clock');
  const [host = '', port = '123'] = server.split(':');
  const time = await askTime(host, Number(port), clock);
  if (time instanceof Error)
    return [
      skip(
        server,
        time.message,
        'Name a time server that can be reached: --ntp HOST; and let chrony or systemd-timesyncd run',
      ),
    ];
  const off = (clock.now() - time) / 1000;
  const detail = `${Math.abs(off).toFixed(1)} s ${off < 0 ? 'behind' : 'ahead of'} ${server}`;
  const fix = 'Let chrony or systemd-timesyncd set the clock: signatures and TLS depend on it';
  if (Math.abs(off) > 300) return [fail('clock', detail, fix)];
  return [Math.abs(off) > 5 ? warn('clock', detail, fix) : ok('clock', detail)];
}

// ---- queue

export async function checkQueue(config: LoadedConfig, clock: Clock, log: Logger): Promise<readonly Finding[]> {
  const { ok, warn, fail } = findings('queue');
  const found: Finding[] = [];
  const present = await stat(path.join(dataFolder(config), config.options.stores.state)).catch(() => undefined);
  if (!present) return [ok('queue', 'nothing yet')];
  try {
    const opened = await openQueueAlone(config, clock, log);
    try {
      const counts = await opened.queue.counts();
      const [oldest] = await opened.queue.list({}, 1);
      const hours = oldest ? (clock.now() - oldest.receivedAt) / 3_600_000 : 0;
      const detail = `${counts.pending} recipients wait, ${counts.held} are held${oldest ? `; the oldest for ${hours.toFixed(1)} h` : ''}`;
      const late =
        oldest !== undefined &&
        clock.now() - oldest.receivedAt > Math.max(config.options.queue.delayWarning, 3_600_000);
      found.push(
        late
          ? warn(
              'age',
              `${detail}: ${oldest.recipients[0]?.why ?? 'held'}`,
              "'postern queue list' says why; 'postern queue flush --all' tries again now",
            )
          : ok('age', detail),
      );
    } finally {
      await opened.close();
    }
  } catch (error) {
    found.push(fail('queue', (error as Error).message, 'Run doctor as the user of the gateway'));
  }
  const maildrop = maildropFolder(config);
  try {
    const bad = readdirSync(maildrop).filter(name => name.endsWith('.bad')).length;
    if (bad > 0)
      found.push(
        warn(maildrop, `${bad} files were set aside as *.bad`, 'The log says why (maildrop-bad); remove them'),
      );
  } catch {
    // No maildrop yet, or it is not for us to see: nothing to tell.
  }
  return found;
}
