// A user's mail program: nodemailer submits over STARTTLS and implicit TLS, imapflow reads.
import { ImapFlow } from 'imapflow';
import { createTransport } from 'nodemailer';
import t from 'tap';
import { startTestGateway } from '../../harness/gateway.ts';

t.test('submission: AUTH and TLS first, missing fields added, read back over IMAP', { timeout: 240_000 }, async t => {
  const gateway = await startTestGateway({ folder: t.testdir() });
  t.teardown(() => gateway.stop());
  for (const name of ['ann', 'ben'])
    await gateway.gateway.users.add(`${name}@example.org`, { password: `${name}-secret` });
  const submit = (
    listener: string,
    options: { readonly secure: boolean; readonly password?: string; readonly ignoreTLS?: boolean },
  ) =>
    createTransport({
      host: '127.0.0.1',
      port: gateway.port(listener),
      secure: options.secure,
      ignoreTLS: options.ignoreTLS ?? false,
      tls: { rejectUnauthorized: false },
      ...(options.password === undefined ? {} : { auth: { user: 'ann@example.org', pass: options.password } }),
    });

  for (const [listener, secure] of [
    ['submission', false],
    ['submissions', true],
  ] as const) {
    const sent = await submit(listener, { secure, password: 'ann-secret' }).sendMail({
      from: 'Ann <ann@example.org>',
      to: 'ben@example.org',
      subject: `Grüße über ${listener}`,
      text: 'Hallo Ben',
      attachments: [{ filename: 'Übersicht.txt', content: 'a,b\n1,2\n' }],
    });
    t.match(sent.response, /^250 2\.0\.0 /);
  }
  const bare = `From: ann@example.org\r\nTo: ben@example.org\r\nSubject: bare\r\n\r\nno date, no id\r\n`;
  const raw = await submit('submission', { secure: false, password: 'ann-secret' }).sendMail({
    envelope: { from: 'ann@example.org', to: ['ben@example.org'] },
    raw: bare,
  });
  t.match(raw.response, /^250 /);

  const refused = async (mail: Promise<unknown>): Promise<number | undefined> => {
    const error: unknown = await mail.catch((reason: unknown) => reason);
    return error instanceof Error ? (error as Error & { readonly responseCode?: number }).responseCode : undefined;
  };
  const mail = { from: 'ann@example.org', to: 'ben@example.org', text: 'x' };
  t.equal(await refused(submit('submission', { secure: false, password: 'wrong' }).sendMail(mail)), 535);
  t.equal(
    await refused(submit('submission', { secure: false, ignoreTLS: true }).sendMail(mail)),
    530,
    'no TLS, no mail',
  );
  t.equal(await refused(submit('submissions', { secure: true }).sendMail(mail)), 530, 'no AUTH, no mail');
  const relay = { from: 'eve@example.net', to: 'someone@remote.example', text: 'x' };
  t.equal(await refused(submit('smtp', { secure: false }).sendMail(relay)), 554, 'port 25 relays for nobody');

  const imap = new ImapFlow({
    host: '127.0.0.1',
    port: gateway.port('imaps'),
    secure: true,
    tls: { rejectUnauthorized: false },
    auth: { user: 'ben@example.org', pass: 'ben-secret' },
    logger: false,
  });
  await imap.connect();
  await imap.mailboxOpen('INBOX');
  const subjects: (string | undefined)[] = [];
  for await (const message of imap.fetch('1:*', { envelope: true, bodyStructure: true, source: true })) {
    subjects.push(message.envelope?.subject);
    if (message.envelope?.subject === 'bare') {
      const text = message.source?.toString('latin1') ?? '';
      t.match(text, /^Date: /m, 'Date was added (RFC 6409 §8.2)');
      t.match(text, /^Message-ID: <[^@]+@mx\.example\.org>/m, 'and Message-ID (§8.3)');
      t.match(text, /^\tby mx\.example\.org with ESMTPSA id /m);
      t.match(text, /^Authentication-Results: mx\.example\.org;\s+auth=pass smtp\.mailfrom=ann@example\.org/m);
    } else t.match(message.bodyStructure?.childNodes?.[1]?.dispositionParameters, { filename: 'Übersicht.txt' });
  }
  await imap.logout();
  t.same(subjects.sort(), ['Grüße über submission', 'Grüße über submissions', 'bare']);
});

t.test('auth and mail-auth together: what auth wrote stays, what a user forged goes', { timeout: 240_000 }, async t => {
  const gateway = await startTestGateway({
    folder: t.testdir(),
    yaml: 'hostname: mx.example.org\ndomains: [{ name: example.org }]\nchain: [auth, mail-auth, relay-policy, recipients]\ndns: { servers: ["127.0.0.1:9"], timeout: 500ms }',
  });
  t.teardown(() => gateway.stop());
  await gateway.gateway.users.add('ann@example.org', { password: 'ann-secret' });
  const transport = createTransport({
    host: '127.0.0.1',
    port: gateway.port('submissions'),
    secure: true,
    tls: { rejectUnauthorized: false },
    auth: { user: 'ann@example.org', pass: 'ann-secret' },
  });
  await transport.sendMail({
    envelope: { from: 'ann@example.org', to: ['ann@example.org'] },
    raw: 'Authentication-Results: mx.example.org; dkim=pass\r\nFrom: ann@example.org\r\nSubject: x\r\n\r\nx\r\n',
  });
  const imap = new ImapFlow({
    host: '127.0.0.1',
    port: gateway.port('imaps'),
    secure: true,
    tls: { rejectUnauthorized: false },
    auth: { user: 'ann@example.org', pass: 'ann-secret' },
    logger: false,
  });
  await imap.connect();
  await imap.mailboxOpen('INBOX');
  const message = await imap.fetchOne('1', { source: true });
  await imap.logout();
  const text = message ? (message.source?.toString('latin1') ?? '') : '';
  t.same(
    text.match(/^Authentication-Results:(?:.*\r\n)(?:[ \t].*\r\n)*/gm)?.map(field => field.replace(/\s+/g, ' ').trim()),
    ['Authentication-Results: mx.example.org; auth=pass smtp.mailfrom=ann@example.org'],
  );
});
