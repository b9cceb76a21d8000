import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { readChain } from '../../../core/config/chain-entry.ts';
import { gatewayOptions } from '../../../core/config/gateway-options.ts';
import { ConfigError, formatProblem, loadConfig } from '../../../core/config/load.ts';
import { nearest } from '../../../core/config/nearest.ts';
import { documentKeys, explainKey, renderJsonSchema, renderReference } from '../../../core/config/render-docs.ts';
import { duration, z } from '../../../core/config/schema.ts';
import { root } from '../../harness/root.ts';

const minimal = `listeners:
  - { name: smtp, role: smtp, port: 0 }
chain: [recipients]
`;

function problemsOf(dir: string, files: Readonly<Record<string, string>>): string[] {
  mkdirSync(path.join(dir, 'config'), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(dir, 'config', name), text);
  try {
    loadConfig('config/postern.yaml', dir);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(formatProblem);
  }
}

t.test('the default configuration is valid', async t => {
  const config = loadConfig('config/postern.yaml', root);
  t.equal(config.options.demo, true);
  t.equal(config.options.message.maxSize, 50 * 1024 * 1024);
  t.same(readChain(config.options.chain).problems, []);
});

t.test('every problem names file, line and column, and the nearest known key', async t => {
  const dir = t.testdir();
  const wrong: readonly [string, Record<string, string>, readonly string[]][] = [
    [
      'unknown top key',
      { 'postern.yaml': `${minimal}dataDirr: x\n` },
      ["Unknown key 'dataDirr', did you mean 'dataDir'? at config/postern.yaml:4:1"],
    ],
    [
      'unknown key in a list',
      { 'postern.yaml': 'listeners:\n  - name: smtp\n    role: smtp\n    prot: 25\n    port: 25\nchain: []\n' },
      ["Unknown key 'prot', did you mean 'port'? at config/postern.yaml:4:5"],
    ],
    [
      'wrong kind',
      { 'postern.yaml': 'listeners:\n  - { name: smtp, role: smtp, port: many }\nchain: []\n' },
      ["Expected number, received string for 'listeners.0.port' at config/postern.yaml:2:31"],
    ],
    [
      'wrong duration',
      { 'postern.yaml': `${minimal}shutdownGrace: soon\n` },
      ["Expected a time span such as '30s', '5m' or '2h', found 'soon' for 'shutdownGrace' at config/postern.yaml:4:1"],
    ],
    [
      'missing key',
      { 'postern.yaml': 'chain: []\n' },
      ["Expected array, received undefined for 'listeners' at config/postern.yaml:1:1"],
    ],
    ['YAML that does not parse', { 'postern.yaml': 'chain: [\n' }, [/at config\/postern.yaml:\d+:\d+/.source]],
    [
      'port twice',
      {
        'postern.yaml':
          'listeners:\n  - { name: a, role: smtp, port: 25 }\n  - { name: b, role: smtp, port: 25 }\nchain: []\n',
      },
      ["Port 127.0.0.1:25 is taken by listener 'a' at config/postern.yaml:3:28"],
    ],
    [
      'a path too long for a socket',
      { 'postern.yaml': `listeners:\n  - { name: a, role: lmtp, port: 0, address: /${'x'.repeat(107)} }\nchain: []\n` },
      ["The path of a socket has at most 107 bytes for 'listeners.0.address' at config/postern.yaml:2:37"],
    ],
    [
      'submission without TLS',
      { 'postern.yaml': 'listeners:\n  - { name: a, role: submission, port: 25, tls: none }\nchain: []\n' },
      [
        "A submission listener needs TLS (RFC 8314 §3.3), or 'allowPlaintextAuth: true' on loopback at config/postern.yaml:2:44",
      ],
    ],
    [
      'key in two files',
      { 'postern.yaml': `${minimal}include: [more.yaml]\n`, 'more.yaml': 'chain: []\n' },
      ["Key 'chain' stands in 'config/postern.yaml' already at config/more.yaml:1:1"],
    ],
    [
      'problem in an included file',
      { 'postern.yaml': `${minimal}include: [more.yaml]\n`, 'more.yaml': '\nlog: { levle: info }\n' },
      ["Unknown key 'levle', did you mean 'level'? at config/more.yaml:2:8"],
    ],
  ];
  for (const [name, files, expected] of wrong) {
    const found = problemsOf(dir, files);
    if (expected[0]?.includes('\\d')) t.match(found[0], new RegExp(expected[0]), name);
    else t.same(found, expected, name);
  }
  t.match(problemsOf(path.join(dir, 'nowhere'), {}), [/^Cannot read the configuration/]);
});

t.test('an included file brings its keys', async t => {
  const dir = t.testdir({ 'a.yaml': `${minimal}include: [b.yaml]\n`, 'b.yaml': 'domains:\n  - name: Example.ORG\n' });
  t.same(loadConfig('a.yaml', dir).options.domains, [{ name: 'example.org', kind: 'local' }]);
});

t.test('chain entries are split into terms and options', async t => {
  const { entries, problems } = readChain([
    'recipients',
    { clamav: { socket: '/run/x', timeout: '1m', onError: 'continue' } },
    { mine: { plugin: './mine.js', mode: 'observe' } },
  ]);
  t.same(problems, []);
  t.same(entries, [
    {
      name: 'recipients',
      plugin: 'recipients',
      timeoutMs: 30_000,
      onError: 'defer',
      mode: 'enforce',
      options: {},
      path: ['chain', 0],
    },
    {
      name: 'clamav',
      plugin: 'clamav',
      timeoutMs: 60_000,
      onError: 'continue',
      mode: 'enforce',
      options: { socket: '/run/x' },
      path: ['chain', 1, 'clamav'],
    },
    {
      name: 'mine',
      plugin: './mine.js',
      timeoutMs: 30_000,
      onError: 'defer',
      mode: 'observe',
      options: {},
      path: ['chain', 2, 'mine'],
    },
  ]);
  t.match(readChain([{ a: {}, b: {} }, { c: { onError: 'panic' } }]).problems, [
    { path: ['chain', 0] },
    { path: ['chain', 1, 'c', 'onError'] },
  ]);
});

t.test('nearest suggests only what is near', async t => {
  t.equal(nearest('dnsbls', ['dnsbl', 'limits']), 'dnsbl');
  t.equal(nearest('lsiteners', ['listeners']), 'listeners');
  t.equal(nearest('zebra', ['dnsbl', 'limits']), undefined);
});

t.test('every key of the file is documented', async t => {
  const bare = documentKeys(gatewayOptions).filter(key => key.doc === '');
  t.same(
    bare.map(key => key.key),
    [],
  );
});

t.test('reference, JSON Schema and explain come from the same schema', async t => {
  const plugin = {
    name: 'sample',
    doc: 'A sample.',
    options: z.strictObject({ wait: duration().prefault('3s').describe('How long.') }),
  };
  t.match(
    renderReference([plugin]),
    /### sample\n\nA sample\.\n\n.*\n.*\n\| `wait` \| duration \| `3s` \| How long\. \|/,
  );
  const schema = JSON.parse(renderJsonSchema([plugin])) as {
    properties: { chain: { items: { anyOf: { properties?: Record<string, unknown> }[] } } };
  };
  t.ok(schema.properties.chain.items.anyOf[1]?.properties?.['sample']);
  t.match(explainKey('chain.sample.wait', [plugin]), [{ default: '3s', type: 'duration' }]);
  t.match(explainKey('listeners.port', []), [{ key: 'listeners[].port', required: true }]);
  t.ok(explainKey('maxSize', []).some(key => key.key === 'message.maxSize'));
});
