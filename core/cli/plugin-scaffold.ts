// The files of a new plugin: TypeScript that compiles, a test, a README. Every command that they name is run by
// test/core/cli/plugin-command.test.ts.

export interface Scaffold {
  /** Name of the plugin and of its folder. */
  readonly name: string;
  /** As a package that others can install, or as a folder beside the configuration. */
  readonly npm: boolean;
}

const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;

export const packageName = ({ name, npm }: Scaffold): string => (npm ? `postern-plugin-${name}` : name);

/** How a chain entry names the plugin, seen from the folder above. */
export const pluginSpec = (scaffold: Scaffold): string =>
  scaffold.npm ? packageName(scaffold) : `./${scaffold.name}/build/index.js`;

function packageJson(scaffold: Scaffold): string {
  return json({
    name: packageName(scaffold),
    version: '0.1.0',
    description: 'A plugin for the mail filter gateway Postern',
    ...(scaffold.npm ? {} : { private: true }),
    type: 'module',
    exports: './build/index.js',
    files: ['build/index.js', 'build/index.d.ts'],
    scripts: { build: 'tsc', test: 'tsc && node --test build/index.test.js' },
    // Found in the folder above; npm shall not look for another one.
    peerDependencies: { postern: '*' },
    peerDependenciesMeta: { postern: { optional: true } },
    devDependencies: { '@types/node': '20.19.43', typescript: '7.0.2' },
  });
}

const tsconfig = json({
  compilerOptions: {
    target: 'es2023',
    lib: ['es2023'],
    module: 'nodenext',
    types: ['node'],
    rootDir: '.',
    outDir: 'build',
    strict: true,
    noUncheckedIndexedAccess: true,
    declaration: true,
    skipLibCheck: true,
  },
  include: ['*.ts'],
});

const source = ({
  name,
}: Scaffold): string => `import { decodeWords, definePlugin, pass, reject, z } from 'postern/plugin';

export const plugin = definePlugin({
  name: '${name}',
  doc: 'Refuses messages with certain words in their subject, and marks the others as seen.',
  options: z.strictObject({
    words: z.array(z.string().min(1)).default(['lottery']).describe('Words that are refused, in any case.'),
    field: z.string().regex(/^[\\w-]+$/).default('X-Seen-By').describe('Header field that marks a message.'),
  }),
  setup(options, host) {
    const words = options.words.map(word => word.toLowerCase());
    host.log.debug({ words: words.length }, 'Ready');
    return {
      // Runs for each message, before the client hears its reply.
      message(at) {
        const subject = decodeWords(at.message.headers.get('Subject')?.value ?? '').toLowerCase();
        const found = words.find(word => subject.includes(word));
        if (found !== undefined) {
          at.evidence({ word: found });
          // The client hears the reply; the reason is for the trace.
          return reject({ code: 550, enhanced: '5.7.1', text: 'Message refused' }, \`Subject has '\${found}'\`);
        }
        return { ...pass, edits: [{ kind: 'add-header', name: options.field, value: '${name}' }] };
      },
    };
  },
});
`;

const testSource = `import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compliance, plugin as drive } from 'postern/testing';
import { plugin } from './index.js';

test('refuses by subject, marks the rest', async () => {
  const driven = await drive(plugin, { words: ['prize'] });
  try {
    await driven.connect({ remote: '192.0.2.1' });
    await driven.mail('a@example.net');
    await driven.rcpt('b@example.org');
    const refused = await driven.message('Subject: Your PRIZE\\n\\nx\\n');
    assert.equal(refused.kind, 'reject');
    assert.deepEqual(refused.evidence, { word: 'prize' });
    const { outcome } = await driven.message('Subject: hello\\n\\nx\\n');
    assert.ok(outcome.kind === 'deliver');
    assert.ok(outcome.message.headers.has('X-Seen-By'));
  } finally {
    await driven.close();
  }
});

// What every plugin must do: legal verdicts, honest failures, nothing left open.
for (const check of compliance(plugin)) test(check.name, () => check.run());
`;

function readme(scaffold: Scaffold): string {
  const { name, npm } = scaffold;
  const use = npm ? `npm install ./${packageName(scaffold)}\n` : '';
  return `# ${packageName(scaffold)}

A plugin for Postern. \`index.ts\` is the plugin, \`index.test.ts\` its test. In this folder:

\`\`\`sh
npm install
npm test
\`\`\`

In the folder above, where \`postern\` is installed:

\`\`\`sh
${use}npx postern plugin check ${pluginSpec(scaffold)}
\`\`\`

and in the configuration there:

\`\`\`yaml
chain:
  - ${name}: { plugin: ${pluginSpec(scaffold)}, words: [lottery, prize] }
\`\`\`

After a change: \`npm run build\` here, then \`npx postern reload\`. Sessions that are open finish on the old one.
Add \`isolate: true\` to the entry to run it in a process of its own.
`;
}

/** File name → content. */
export function scaffoldFiles(scaffold: Scaffold): Readonly<Record<string, string>> {
  return {
    'package.json': packageJson(scaffold),
    'tsconfig.json': tsconfig,
    'index.ts': source(scaffold),
    'index.test.ts': testSource,
    'README.md': readme(scaffold),
    '.gitignore': 'build/\nnode_modules/\n',
  };
}
