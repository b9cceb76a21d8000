// How tests start Node. The test runner puts a loader into NODE_OPTIONS of every child, which triples the time that
// `postern` takes to start and breaks tools that are loaded by `require`; `env` takes it out again and becomes the child.

/** Program and arguments for `spawn` and the like; the pid is Node's own. */
export const plainNode = (...args: readonly string[]): readonly [string, string[]] => [
  'env',
  ['-u', 'NODE_OPTIONS', process.execPath, ...args],
];
