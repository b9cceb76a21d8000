import type { Call, Complain, Later, MatchContext, Matching } from './contract.ts';
// Values against keys, RFC 5228 §2.7: true as soon as one value matches one key. Values are the outer loop, keys the inner.
// The work is charged to the script's budget before it is done.

export function matchValues(call: Call, values: readonly string[], keys: readonly string[]): Later<boolean> {
  const matching = call.word.matching;
  if (!matching) throw new Error(`'${call.name}' does not use the engine's match types`);
  const context: MatchContext = {
    comparator: matching.comparator,
    parameter: parameterOf(call, matching),
    run: call.run,
    call,
  };
  const { matchAll } = matching.type;
  if (matchAll) {
    call.run.spend(values.length + keys.length);
    return matchAll(values, keys, context);
  }
  return matchFrom(0, values, keys, matching, context);
}

function parameterOf(call: Call, matching: Matching): string | undefined {
  const parameter = matching.parameter;
  if (parameter?.kind !== 'string') return undefined;
  if (typeof parameter.value === 'string') return parameter.value;
  return call.evaluateParameter(parameter);
}

function matchFrom(
  from: number,
  values: readonly string[],
  keys: readonly string[],
  matching: Matching,
  context: MatchContext,
): Later<boolean> {
  const { run } = context;
  for (let at = from; at < values.length * keys.length; at += 1) {
    const value = values[Math.floor(at / keys.length)] as string;
    const key = keys[at % keys.length] as string;
    run.spend(1 + (value.length >> 6));
    const hit = matching.type.match(value, preparedKey(key, matching, context), context);
    if (hit === true) return true;
    if (hit instanceof Promise)
      return hit.then(found => (found ? true : matchFrom(at + 1, values, keys, matching, context)));
  }
  return false;
}

const maxPrepared = 512;

function preparedKey(key: string, matching: Matching, context: MatchContext): unknown {
  const { prepare, checkKey } = matching.type;
  if (!prepare && !checkKey) return key;
  if (matching.prepared.has(key)) return matching.prepared.get(key);
  const complain: Complain = (message, severity) => {
    if (severity !== 'warning') throw context.call.error(message);
  };
  checkKey?.(key, complain);
  const prepared = prepare ? prepare(key, matching.comparator) : key;
  // Keys that come from variables change with every message: the memory must not grow with them.
  if (matching.prepared.size >= maxPrepared) matching.prepared.clear();
  matching.prepared.set(key, prepared);
  return prepared;
}
