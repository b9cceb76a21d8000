// Commands include, return and global, RFC 6609. Scripts are looked for when they are wanted: a script may be uploaded
// before those that it includes (§3.1), so a missing or recursive one is a run-time error.

import { compileScript } from '../compile.ts';
import type { Call, Complain, Program, Run } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { defineExtension } from '../extension.ts';
import { identifier } from './variables.ts';

interface Included {
  readonly programs: Map<string, Program>;
  /** Scripts that are being evaluated, the outermost first. */
  readonly stack: string[];
  readonly done: Set<string>;
  count: number;
}

const included = Symbol('included scripts');
const globals = Symbol('global variables');

const stateOf = (run: Run): Included =>
  run.state(included, () => ({ programs: new Map(), stack: [], done: new Set(), count: 0 }));
const globalVariables = (run: Run): Map<string, string> => run.state(globals, () => new Map());

/** RFC 5804 §1.6 */
function checkName(name: string, complain: Complain): void {
  if (name === '' || Buffer.byteLength(name) > 512) complain('Name of a script must have 1 to 512 bytes');
  else if (/[\0-\x1f\x7f-\x9f\u2028\u2029/]/.test(name))
    complain(`Name of script ${quote(name)} holds characters that are not allowed`);
}

async function load(
  call: Call,
  key: string,
  location: 'personal' | 'global',
  name: string,
): Promise<Program | undefined> {
  const { run } = call;
  const known = stateOf(run).programs.get(key);
  if (known) return known;
  const source = await run.wait(run.host.scripts?.load(location, name) ?? Promise.resolve(undefined));
  if (source === undefined) return undefined;
  if (typeof source === 'object' && 'commands' in source) return source;
  const compiled = compileScript(source, { registry: run.program.registry, name });
  if (!compiled.ok) {
    const [first] = compiled.diagnostics.filter(d => d.severity === 'error');
    throw call.error(`Included script ${quote(name)} is not valid: line ${first?.line}: ${first?.message}`);
  }
  return compiled.program;
}

async function include(call: Call): Promise<void> {
  const { run } = call;
  const state = stateOf(run);
  const name = call.string('script');
  const location = call.has('global') ? 'global' : 'personal';
  const key = `${location}/${name}`;
  const main = `personal/${run.host.scriptName ?? ''}`;
  const running = state.stack.includes(key) || (key === main && run.host.scriptName !== undefined);
  // RFC 6609 §3.2: with `:once` recursion is no error.
  if (call.has('once') && (running || state.done.has(key))) return;
  if (running) throw call.error(`Script ${quote(name)} is included by itself`);
  const depth = run.setting('maxIncludeDepth');
  if (state.stack.length >= depth) throw call.error(`Scripts are included deeper than the policy limit of ${depth}`);
  state.count += 1;
  const most = run.setting('maxIncludes');
  if (state.count > most) throw call.error(`Script exceeded the policy limit of ${most} includes`);
  const program = await load(call, key, location, name);
  if (!program) {
    if (call.has('optional')) return;
    throw call.error(`Included script ${quote(name)} does not exist`);
  }
  state.programs.set(key, program);
  state.done.add(key);
  state.stack.push(key);
  try {
    await evaluate(run, program);
  } finally {
    state.stack.pop();
  }
}

/** RFC 6609 §3.5: within a loop over MIME parts the included script sees the part as the message. */
async function evaluate(run: Run, program: Program): Promise<void> {
  const { part, message } = run;
  if (!part) return run.runScript(program);
  run.part = undefined;
  run.replaceMessage(await part());
  try {
    await run.runScript(program);
  } finally {
    run.replaceMessage(message);
    run.part = part;
  }
}

function checkGlobal(name: string, complain: Complain): void {
  if (!identifier.test(name)) complain(`${quote(name)} is no name of a variable`);
}

const badPath = (path: readonly string[], complain: Complain): void => {
  if (path.length !== 1 || !identifier.test(path[0] ?? ''))
    complain(`Invalid global variable ${quote(path.join('.'))}`);
};

export const includeExtension = defineExtension({
  name: 'include',
  commands: [
    {
      name: 'include',
      tags: [
        { name: 'personal', group: 'location' },
        { name: 'global', group: 'location' },
        { name: 'once' },
        { name: 'optional' },
      ],
      arguments: [{ name: 'script', type: 'string', literal: true, check: checkName }],
      validate(word) {
        word.unit.includes.push({
          location: word.has('global') ? 'global' : 'personal',
          name: word.string('script') ?? '',
          optional: word.has('optional'),
          line: word.node.nameSpan.line,
          column: word.node.nameSpan.column,
        });
      },
      run: include,
    },
    { name: 'return', run: call => call.return() },
    {
      name: 'global',
      arguments: [{ name: 'names', type: 'string-list', literal: true, check: checkGlobal }],
      validate(word) {
        if (!word.unit.isActive('variables'))
          word.error("Command 'global' needs 'require \"variables\";' at the top of the script");
      },
      run(call) {
        for (const name of call.strings('names')) {
          // RFC 6609 §3.4.1
          if (call.run.variables.isOwn(name))
            throw call.error(`Variable ${quote(name)} was set before it was made global`);
          call.run.variables.share(name, globalVariables(call.run));
        }
      },
    },
  ],
  namespaces: [
    {
      name: 'global',
      validate: badPath,
      read: ([name], run) => globalVariables(run).get((name ?? '').toLowerCase()),
      write([name], value, run) {
        run.variables.setIn(globalVariables(run), name ?? '', value);
      },
    },
  ],
});
