// A whole Dovecot with POP3 and IMAP on ports of its own: what a provider runs. TLS with a certificate of its own.
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { selfSignedCertificate } from '../../core/net/self-signed.ts';
import { engineFolder, startEngine, type Teardown, untilAccepts } from './engine-process.ts';
import { freePorts } from './gateway-process.ts';

export interface Dovecot {
  readonly pop3: number;
  readonly pop3s: number;
  readonly imap: number;
  readonly imaps: number;
  /** PEM of the certificate, which names `localhost`. */
  readonly certificateFile: string;
  readonly folder: string;
  /** Puts a message into the INBOX of the user. */
  deliver(user: string, message: string): Promise<void>;
  /** Maildir of the user. */
  maildir(user: string): string;
}

const owner = { uid: 65534, gid: 65534 };

/** Takes tokens by XOAUTH2, which the issuer at this URL knows (RFC 7662); the claim `email` is the user. */
async function tokenSettings(folder: string, introspection: string): Promise<string> {
  const file = path.join(folder, 'oauth2.conf');
  await writeFile(
    file,
    `introspection_mode = post
introspection_url = ${introspection}
client_id = provider
client_secret = secret
username_attribute = email
active_attribute = active
active_value = true
`,
  );
  return `auth_mechanisms = plain xoauth2
passdb {
  driver = oauth2
  mechanisms = xoauth2
  args = ${file}
}
`;
}

/** Needs root, as Dovecot's master does for its own users. `users`: name and password. */
export async function startDovecot(
  t: Teardown,
  users: Readonly<Record<string, string>>,
  { introspection }: { readonly introspection?: string } = {},
): Promise<Dovecot> {
  const folder = await engineFolder(t, 'dovecot');
  const [pop3 = 0, pop3s = 0, imap = 0, imaps = 0] = await freePorts(4);
  const { key, cert } = selfSignedCertificate({ names: ['localhost'], now: Date.now() });
  await writeFile(path.join(folder, 'key.pem'), key);
  await writeFile(path.join(folder, 'cert.pem'), cert);
  await writeFile(
    path.join(folder, 'users'),
    Object.entries(users)
      .map(([name, password]) => `${name}:{PLAIN}${password}::::::\n`)
      .join(''),
  );
  const maildir = (user: string): string => path.join(folder, 'mail', user);
  const { chown } = await import('node:fs/promises');
  await mkdir(path.join(folder, 'mail'));
  await chown(path.join(folder, 'mail'), owner.uid, owner.gid);
  await chmod(path.join(folder, 'mail'), 0o755);
  const listeners = (protocol: string, plain: number, secure: number): string =>
    `service ${protocol}-login {\n  chroot =\n  inet_listener ${protocol} {\n    address = 127.0.0.1\n    port = ${plain}\n  }\n  inet_listener ${protocol}s {\n    address = 127.0.0.1\n    port = ${secure}\n    ssl = yes\n  }\n}\n`;
  await writeFile(
    path.join(folder, 'dovecot.conf'),
    `base_dir = ${folder}/run
state_dir = ${folder}/run
log_path = /dev/stderr
protocols = pop3 imap
ssl = yes
ssl_cert = <${folder}/cert.pem
ssl_key = <${folder}/key.pem
ssl_dh =
disable_plaintext_auth = yes
auth_failure_delay = 0
default_internal_user = root
default_internal_group = root
default_login_user = nobody
mail_location = maildir:${folder}/mail/%u
mail_uid = ${owner.uid}
mail_gid = ${owner.gid}
first_valid_uid = 1
maildir_very_dirty_syncs = no
passdb {
  driver = passwd-file
  args = ${folder}/users
}
userdb {
  driver = static
  args = uid=${owner.uid} gid=${owner.gid} home=${folder}/mail/%u
}
namespace inbox {
  inbox = yes
}
service stats {
  unix_listener stats-writer {
    mode = 0666
  }
}
${introspection === undefined ? '' : await tokenSettings(folder, introspection)}${listeners('pop3', pop3, pop3s)}${listeners('imap', imap, imaps)}`,
  );
  const engine = startEngine(t, 'dovecot', ['-F', '-c', path.join(folder, 'dovecot.conf')]);
  await Promise.race([
    Promise.all([pop3, pop3s, imap, imaps].map(port => untilAccepts({ host: '127.0.0.1', port }))),
    engine.untilOutput(/Fatal|Error in configuration/).then(() => {
      throw new Error(engine.output());
    }),
  ]);
  let count = 0;
  return {
    pop3,
    pop3s,
    imap,
    imaps,
    certificateFile: path.join(folder, 'cert.pem'),
    folder,
    maildir,
    async deliver(user, message) {
      const box = maildir(user);
      for (const each of [box, ...['cur', 'new', 'tmp'].map(name => path.join(box, name))]) {
        await mkdir(each, { recursive: true });
        await chown(each, owner.uid, owner.gid);
      }
      const name = `${1_700_000_000 + count++}.M${count}P1.provider`;
      const file = path.join(box, 'tmp', name);
      await writeFile(file, message);
      await chown(file, owner.uid, owner.gid);
      // Nobody sees half of it.
      await rename(file, path.join(box, 'new', name));
    },
  };
}
