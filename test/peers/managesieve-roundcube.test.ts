// Rules are edited by Roundcube's ManageSieve library (Net_Sieve, PHP), over STARTTLS, in a whole gateway.
import { execFile } from 'node:child_process';
import t from 'tap';
import { requireEngines } from '../harness/engine.ts';
import { startTestGateway } from '../harness/gateway.ts';

/** What Roundcube's plugin `managesieve` does with the library; results as a JSON array. */
const program = String.raw`
error_reporting(E_ERROR);
require 'Net/Sieve.php';
[, $port, $method] = $argv;
$options = ['ssl' => ['verify_peer' => false, 'verify_peer_name' => false]];
$sieve = new Net_Sieve(null, null, '127.0.0.1', $port, $method, '', false, null, true, $options);
$out = [];
$step = function ($name, $value) use (&$out) {
  $out[$name] = $value instanceof PEAR_Error ? 'error: ' . $value->getMessage() : $value;
};
$step('connect', $sieve->connect('127.0.0.1', $port, $options, true));
$step('wrong', $sieve->login('ann@example.org', 'wrong', $method));
$step('login', $sieve->login('ann@example.org', 'secret', $method));
$step('extensions', $sieve->getExtensions());
$step('list', $sieve->listScripts());
$step('space', $sieve->haveSpace('roundcube', 200));
$step('install', $sieve->installScript('roundcube', "require [\"fileinto\"];\r\n# rule:[Grüße]\r\nfileinto \"Grüße\";\r\n", true));
$step('utf8', $sieve->installScript('Регeln "2"', "keep;\r\n"));
$step('broken', $sieve->installScript('broken', "keep;\r\nkeeep;\r\nfoo \"x\";\r\n"));
$step('names', $sieve->listScripts());
$step('active', $sieve->getActive());
$step('get', $sieve->getScript('roundcube'));
$step('again', $sieve->setActive('Регeln "2"'));
$step('removeActive', $sieve->removeScript('Регeln "2"'));
$step('deactivate', $sieve->setActive(''));
$step('remove', $sieve->removeScript('Регeln "2"'));
$step('missing', $sieve->getScript('nothing'));
$step('left', $sieve->listScripts());
$step('bye', $sieve->disconnect());
echo json_encode($out);
`;

for (const method of ['PLAIN', 'LOGIN'])
  t.test(`Net_Sieve with ${method}`, { timeout: 240_000 }, async t => {
    if (!requireEngines(t, "ManageSieve with Roundcube's library", 'php', 'net-sieve')) return;
    const gateway = await startTestGateway({ folder: t.testdir() });
    t.teardown(() => gateway.stop());
    await gateway.gateway.users.add('ann@example.org', { password: 'secret' });
    const output = await new Promise<string>((resolve, reject) => {
      const args = ['-r', program, '--', String(gateway.port('sieve')), method];
      execFile('php', args, { timeout: 120_000 }, (error, stdout, stderr) =>
        error ? reject(new Error(`${error.message}\n${stdout}${stderr}`)) : resolve(stdout),
      );
    });
    const heard = JSON.parse(output) as Record<string, unknown>;
    t.match(heard, {
      connect: true,
      wrong: /^error: /,
      login: true,
      list: [],
      space: true,
      install: true,
      utf8: true,
      broken: /^error: .*line 2:1: error: .*keeep.*line 3:1: error: .*foo/,
      active: 'roundcube',
      get: 'require ["fileinto"];\r\n# rule:[Grüße]\r\nfileinto "Grüße";\r\n',
      again: true,
      removeActive: /^error: .*active/,
      deactivate: true,
      remove: true,
      missing: /^error: /,
      left: ['roundcube'],
    });
    t.same([...(heard['names'] as readonly string[])].sort(), ['roundcube', 'Регeln "2"'].sort());
    const extensions = (heard['extensions'] as readonly string[]).map(name => name.toLowerCase());
    t.ok(
      ['fileinto', 'vacation', 'imapsieve', 'extlists'].every(name => extensions.includes(name)),
      output,
    );
  });
