// A plugin from the scaffold, as a stranger gets there: Postern packed and installed, then the commands of the README as
// they stand there, then the chain.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { freePort, startGatewayProcess } from '../../harness/gateway-process.ts';
import { root, sourcePath } from '../../harness/root.ts';
import { SmtpClient } from '../../harness/smtp-client.ts';

/** Code blocks of a kind. */
const blocks = (markdown: string, kind: string): readonly string[] =>
  [...markdown.matchAll(new RegExp(`\`\`\`${kind}\\n(.*?)\`\`\``, 'gs'))].map(match => match[1] ?? '');
const blockWith = (markdown: string, kind: string, text: string): string => {
  const found = blocks(markdown, kind).find(block => block.includes(text));
  if (found === undefined) throw new Error(`No ${kind} block with '${text}'`);
  return found;
};

const npm = (folder: string, ...args: readonly string[]): string =>
  execFileSync(
    'env',
    ['-u', 'NODE_OPTIONS', 'npm', ...args, '--no-audit', '--no-fund', '--prefer-offline', '--silent'],
    {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );

/** What a shell would do with these lines; fails where one of them does. */
function shell(t: Test, folder: string, script: string): string {
  const run = spawnSync('env', ['-u', 'NODE_OPTIONS', 'bash', '-e', '-c', script], { cwd: folder, encoding: 'utf8' });
  t.equal(run.status, 0, `${script}\n${run.stdout}\n${run.stderr}`);
  return run.stdout;
}

/** Sends through a gateway that runs the installed package with this chain. */
async function sendThrough(t: Test, folder: string, chain: string): Promise<(subject: string) => Promise<string>> {
  const port = await freePort();
  writeFileSync(
    path.join(folder, 'postern.yaml'),
    `hostname: mx.example.org
dataDir: data
domains: [{ name: example.org }]
listeners: [{ name: smtp, role: smtp, port: ${port}, tls: none }]
${chain}  - relay-policy
  - recipients
`,
  );
  shell(t, folder, 'echo bobs-password | npx postern --config postern.yaml user add bob@example.org');
  const main = path.join(folder, 'node_modules/postern/build/core/main.js');
  const gateway = await startGatewayProcess(path.join(folder, 'postern.yaml'), port, main);
  t.teardown(() => gateway.end('SIGKILL'));
  const client = await SmtpClient.open(port);
  t.teardown(() => client.close());
  await client.command('EHLO client.example');
  return subject =>
    client.send({ from: 'a@example.net', to: ['bob@example.org'], body: `Subject: ${subject}\r\n\r\nx\r\n` });
}

t.test('scaffold, test, check and chain, by the README', { timeout: 800_000 }, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'postern-author-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // Built already; the script that builds would build in the middle of other tests.
  npm(root, 'pack', '--ignore-scripts', '--pack-destination', folder);
  const { version } = JSON.parse(readFileSync(sourcePath('package.json'), 'utf8')) as { version: string };
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }');
  npm(folder, 'install', '--omit=dev', path.join(folder, `postern-${version}.tgz`));

  const readme = readFileSync(sourcePath('README.md'), 'utf8');
  shell(t, folder, blockWith(readme, 'sh', 'plugin new'));
  const send = await sendThrough(t, folder, blockWith(readme, 'yaml', 'my-filter'));
  t.match(await send('hello'), /^250 /);
  t.match(await send('You won the LOTTERY'), /^550 5\.7\.1 Message refused/);

  t.test('the single file of the README', async t => {
    writeFileSync(path.join(folder, 'no-tuesdays.mjs'), blockWith(readme, 'js', 'no-tuesdays'));
    shell(t, folder, 'npx postern plugin check ./no-tuesdays.mjs');
  });

  t.test('as a package', async t => {
    shell(t, folder, 'npx postern plugin new words --npm');
    const own = path.join(folder, 'postern-plugin-words');
    // What npm fetched for the first one.
    for (const name of ['node_modules', 'package-lock.json'])
      cpSync(path.join(folder, 'my-filter', name), path.join(own, name), { recursive: true });
    const steps = readFileSync(path.join(own, 'README.md'), 'utf8');
    const [inside = '', above = ''] = blocks(steps, 'sh');
    shell(t, own, inside);
    shell(t, folder, above);
    const list = shell(t, folder, 'npx postern --config postern.yaml plugin list');
    t.match(list, /^dnsbl +built in/m);
    t.match(list, /^my-filter +\.\/my-filter\/build\/index\.js +yes/m);
    t.match(blockWith(steps, 'yaml', 'words'), /plugin: postern-plugin-words/);
    const packed = npm(own, 'pack', '--dry-run', '--json');
    const files = (JSON.parse(packed) as { files: { path: string }[] }[])[0]?.files.map(file => file.path).sort();
    t.same(files, ['README.md', 'build/index.d.ts', 'build/index.js', 'package.json']);
  });

  t.test('what cannot be done', async t => {
    const fails = (script: string): string => {
      const run = spawnSync('env', ['-u', 'NODE_OPTIONS', 'bash', '-c', script], { cwd: folder, encoding: 'utf8' });
      t.not(run.status, 0, script);
      return run.stderr + run.stdout;
    };
    t.match(fails('node node_modules/postern/build/core/main.js plugin new my-filter'), /exists already/);
    t.match(fails('node node_modules/postern/build/core/main.js plugin new My_Filter'), /is no name of a plugin/);
    t.match(
      fails('node node_modules/postern/build/core/main.js plugin check ./nothing.mjs'),
      /Could not load plugin '\.\/nothing\.mjs'/,
    );
    t.match(
      fails(
        "node node_modules/postern/build/core/main.js plugin check ./my-filter/build/index.js --options '{ wrds: [a] }'",
      ),
      /FAIL.*\n.*wrds/,
    );
  });
});
