// The one interface by which words enter the language. `keep`, `if` and `header` are defined with it as `vacation` is, and
// as an extension from outside may be. The compiler and the interpreter know these shapes and no word.
import type { HeaderField, HeaderList } from '../mail/headers.ts';
import type { CommandNode, TestNode } from './ast.ts';
import type { Call } from './call.ts';
import type { Execution } from './execute.ts';
import type { CompiledWord, Template } from './program.ts';
import type { Entry, MutableEntry } from './result.ts';
import type { Run } from './run.ts';
import type { CompileScope, Unit, WordScope } from './scope.ts';

export type Later<T> = T | Promise<T>;
export type ArgumentType = 'string' | 'string-list' | 'number';

/** Reports about one value; `error` by default. At run time an error ends the script, a warning is dropped. */
export type Complain = (message: string, severity?: 'error' | 'warning') => void;

interface ValueDefinition {
  readonly name: string;
  /** Must be constant, and is taken as written: no variables, no encoded characters. */
  readonly literal?: boolean;
  /** Called for each constant string at compile time and for each other one when it is evaluated. */
  readonly check?: (value: string, complain: Complain, unit: Unit | undefined) => void;
}

/** A positional argument. Optional ones are left out from the left, as in `hasflag` (RFC 5232 §4). */
export interface ArgumentDefinition extends ValueDefinition {
  readonly type: ArgumentType;
  readonly optional?: boolean;
}

/** How a tag changes where a test takes its header fields from. */
export interface FieldHooks {
  /** Header sections to look in, instead of the message's. */
  entities?(call: Call): Later<readonly HeaderList[]>;
  /** Which of the fields of one name count. */
  pick?(fields: readonly HeaderField[], call: Call): readonly HeaderField[];
  /** The strings that one field gives, instead of its decoded text. */
  values?(field: HeaderField, call: Call): readonly string[];
}

export interface TagDefinition extends ValueDefinition {
  /** Type of the value that follows the tag; a tag without it is a switch. */
  readonly type?: ArgumentType;
  /** At most one tag of a group in one word, e.g. `:over` and `:under`. */
  readonly group?: string;
  /** Words of other extensions that take this tag too. For tags listed in `ExtensionDefinition.tags`. */
  readonly on?: readonly string[];
  /** Also taken by every word that takes one of these tags: `:create` goes wherever `:fcc` goes (RFC 8580 §3.1). */
  readonly with?: readonly string[];
  /** Positional arguments that mean something else with this tag: their own checks do not apply. */
  readonly unchecked?: readonly string[];
  /** Called at compile time when the tag is given. */
  readonly validate?: (word: WordScope) => void;
  /** Changes the entry that the action is about to add to the result. */
  readonly apply?: (entry: MutableEntry, call: Call) => Later<void>;
  readonly fields?: FieldHooks;
}

/** Groups of tags that the engine keeps: all that the required extensions have put into them. */
export type EngineGroup = 'match-type' | 'comparator' | 'address-part' | 'modifier';

interface WordDefinition {
  readonly name: string;
  readonly arguments?: readonly ArgumentDefinition[];
  readonly tags?: readonly TagDefinition[];
  readonly uses?: readonly EngineGroup[];
  /** Number of sub-tests: none (default), one, or a list in parentheses. */
  readonly tests?: 'none' | 'one' | 'list';
  /** Called when the word's arguments are known to be right in number and type. */
  readonly validate?: (word: WordScope) => void;
}

export interface CommandDefinition extends WordDefinition {
  /** Whether a block must follow; default: none may. */
  readonly block?: boolean;
  /** The command directly before must be one of these, as for `else`; its handler's value is `call.previous`. */
  readonly follows?: readonly string[];
  /** Must come before every command that has not this mark, as `require` (RFC 5228 §3.2). */
  readonly prologue?: boolean;
  /** Commands in whose block it must stand, at any depth. */
  readonly inside?: readonly string[];
  /** Whether the block can ever run; where it cannot, it is not validated. */
  readonly reachable?: (word: WordScope) => boolean;
  run(call: Call): unknown;
}

export interface TestDefinition extends WordDefinition {
  /** Known at compile time: blocks that can never run are not validated (RFC 5463 §4). */
  readonly constant?: (word: WordScope, tests: readonly (boolean | undefined)[]) => boolean | undefined;
  /** The value of a sub-test after which the others are not evaluated. */
  readonly settles?: boolean;
  run(call: Call): Later<boolean>;
}

/** What becomes of an entry that meets an earlier one. */
export type Meeting = 'both' | 'drop' | { readonly replace: Entry } | { readonly conflict: string };

export interface ActionDefinition {
  readonly name: string;
  /** Asked once per earlier entry, in order, until the answer is not `both`. Default: both stand. */
  readonly meets?: (entry: Entry, earlier: Entry, run: Run) => Meeting;
  /** Counts against `maxRedirects`. */
  readonly sends?: boolean;
  /** Fails before anything is carried out, when it can be known that the action would fail. */
  readonly prepare?: (entry: Entry, execution: Execution) => Promise<void>;
  readonly execute: (entry: Entry, execution: Execution) => Promise<void>;
}

export type ComparatorOperation = 'equality' | 'ordering' | 'substring';
export interface ComparatorDefinition {
  /** As in `:comparator "i;octet"`. */
  readonly name: string;
  readonly operations: readonly ComparatorOperation[];
  /** Form in which equal values are equal strings and contained values are substrings. */
  fold(value: string): string;
  /** Negative, zero, positive. */
  compare(a: string, b: string): number;
  /** What `?` of a wildcard stands for (RFC 5228 §2.7.1). */
  readonly character: 'octet' | 'code-point';
}

export interface MatchContext {
  readonly comparator: ComparatorDefinition;
  readonly parameter: string | undefined;
  readonly run: Run;
  readonly call: Call;
}

export interface MatchTypeDefinition {
  /** Tag without the colon. */
  readonly name: string;
  /** A string that follows the tag, as `:count "ge"`. */
  readonly parameter?: Omit<ArgumentDefinition, 'optional' | 'type'>;
  readonly needs?: ComparatorOperation;
  /** Complains about a constant key at compile time, and about any other when it is evaluated. */
  readonly checkKey?: (key: string, complain: Complain) => void;
  /** Turns a key into what `match` wants; the engine remembers it for constant keys. */
  readonly prepare?: (key: string, comparator: ComparatorDefinition) => unknown;
  /** One value against one key; `prepared` is the key itself where there is no `prepare`. */
  match(value: string, prepared: unknown, context: MatchContext): Later<boolean>;
  /** All values at once, instead of `match`: for `:count`. */
  readonly matchAll?: (values: readonly string[], keys: readonly string[], context: MatchContext) => Later<boolean>;
}

export interface AddressPartDefinition {
  readonly name: string;
  /** undefined: the address has no such part and does not match (RFC 5233 §4). */
  part(
    address: { readonly local: string; readonly domain: string; readonly text: string },
    run: Run,
  ): string | undefined;
}

/** A part of the envelope that test `envelope` can look at (RFC 5228 §5.4, RFC 6009 §2). */
export interface EnvelopePartDefinition {
  /** Lower case. */
  readonly name: string;
  /** Whether `:domain` and the like apply. */
  readonly addresses: boolean;
  read(run: Run): readonly string[];
}

/** Modifier of `set` (RFC 5229 §4.1); the higher precedence is applied first. */
export interface ModifierDefinition {
  readonly name: string;
  readonly precedence: number;
  apply(value: string, run: Run): string;
}

/** Variables whose first component is `name`: `${name.x.y}`, path `['x', 'y']`. */
export interface NamespaceDefinition {
  readonly name: string;
  /** Reports what is wrong with a reference or, with `write`, with `set "name.x"`. */
  readonly validate?: (path: readonly string[], complain: Complain, write: boolean) => void;
  read(path: readonly string[], run: Run): string | undefined;
  /** Absent: read-only. */
  readonly write?: (path: readonly string[], value: string, run: Run) => void;
}

/** Rewrites string literals at compile time; stages run by `order` (encoded characters 10, variables 20). */
export interface StringStage {
  readonly order: number;
  /** A plain string, or pieces of which some are read at run time. */
  compile(text: string, scope: CompileScope, complain: Complain): Template;
}

export interface ExtensionDefinition {
  /** What `require` accepts. */
  readonly name: string;
  /** Part of the language: active without `require`. `require` of it is allowed. */
  readonly always?: boolean;
  /** Not a capability at all: `require` does not know it. */
  readonly hidden?: boolean;
  /** Only there when the administrator enables it. */
  readonly offByDefault?: boolean;
  /** Capabilities that are required along with it (RFC 5235 §1: spamtestplus). */
  readonly implies?: readonly string[];
  readonly conflicts?: readonly string[];
  readonly commands?: readonly CommandDefinition[];
  readonly tests?: readonly TestDefinition[];
  readonly actions?: readonly ActionDefinition[];
  /** Tags for words of other extensions. */
  readonly tags?: readonly TagDefinition[];
  readonly comparators?: readonly ComparatorDefinition[];
  readonly matchTypes?: readonly MatchTypeDefinition[];
  readonly addressParts?: readonly AddressPartDefinition[];
  readonly envelopeParts?: readonly EnvelopePartDefinition[];
  readonly modifiers?: readonly ModifierDefinition[];
  readonly namespaces?: readonly NamespaceDefinition[];
  readonly strings?: StringStage;
  /** When a script that requires it begins to run. */
  readonly begin?: (run: Run) => void;
  /** For every entry that is added while a script that requires it runs, the implicit keep included. */
  readonly entry?: (entry: MutableEntry, run: Run) => void;
  /** After the whole script was validated. */
  readonly finish?: (scope: CompileScope) => void;
  /** Lines for ManageSieve, e.g. methods of `notify`. */
  readonly capability?: string;
}

/** Checks the definition's own shape, gives it back. Throws on a definition that could never work. */
export function defineExtension<const E extends ExtensionDefinition>(extension: E): E {
  const word = /^[a-z_][a-z0-9_]*$/;
  const names = [
    ...(extension.commands ?? []),
    ...(extension.tests ?? []),
    ...(extension.tags ?? []),
    ...(extension.matchTypes ?? []),
    ...(extension.addressParts ?? []),
    ...(extension.modifiers ?? []),
  ].map(entry => entry.name);
  const bad = names.find(name => !word.test(name));
  if (bad !== undefined) throw new Error(`Extension '${extension.name}' defines '${bad}', which is no lower-case word`);
  return extension;
}

export type AnyWord = CommandDefinition | TestDefinition;
export type WordNode = CommandNode | TestNode;
export type { CompiledWord };
