// How a run ends early for a reason. All of them lead to the implicit keep (RFC 5228 §2.10.6); none leaves `run`.

/** The script did something that is an error: the owner hears of it. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  line: number | undefined;
  column: number | undefined;
  script: string | undefined;
}

/** Steps or CPU time used up. */
export class BudgetError extends ScriptError {}
