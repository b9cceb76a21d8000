// Cost per message of a script of 20 rules, the shape a careful user's script has:
//   node build/bench/sieve.js [messages]
// CPU time of compile once, then run and execute per message, against ports in memory. Aim: less than 0.4 ms a message.
import { compile, execute, run, standardRegistry } from '../core/sieve/index.ts';
import { memoryHost } from '../test/harness/sieve-host.ts';
import { ruleMessage, twentyRules } from './lib/rules.ts';

const count = 3000;
const compiled = compile(twentyRules(), { registry: standardRegistry() });
if (!compiled.ok) throw new Error(JSON.stringify(compiled.diagnostics));
const { program } = compiled;
const hosts = Array.from({ length: count }, (_, at) => memoryHost({ message: ruleMessage(at) }));

async function measure(withExecute: boolean): Promise<number> {
  const began = process.cpuUsage();
  for (const host of hosts) {
    const result = await run(program, host);
    if (result.status !== 'ok') throw new Error(JSON.stringify(result.diagnostics));
    if (withExecute) await execute(result, host);
  }
  const used = process.cpuUsage(began);
  return (used.user + used.system) / 1000 / count;
}

await measure(false);
console.log(`run:           ${(await measure(false)).toFixed(4)} ms CPU per message`);
console.log(`run + execute: ${(await measure(true)).toFixed(4)} ms CPU per message`);
const trials = 50;
const began = process.cpuUsage();
for (let at = 0; at < trials; at += 1) compile(twentyRules(), { registry: program.registry });
const used = process.cpuUsage(began);
console.log(`compile:       ${((used.user + used.system) / 1000 / trials).toFixed(3)} ms CPU per script`);
