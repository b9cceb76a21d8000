// The words in which the parts of the engine speak of one another, and in which an extension speaks to it: definitions of
// words (`ExtensionDefinition`), the compiled form (`Program`), what handlers are given (`Call`, `Run`, `Execution`, `Unit`,
// `WordScope`) and what a host implements (`SieveHost`). Types only, in one file because they refer to each other. `keep`,
// `if` and `header` are defined with them as `vacation` is, and as an extension from outside may be: the compiler and the
// interpreter know these shapes and no word.
import type { Clock } from '../lib/clock.ts';
import type { HeaderField, HeaderList } from '../mail/headers.ts';
import type { Message } from '../mail/message.ts';
import type { CommandNode, Script, TestNode } from './ast.ts';
import type { Diagnostic, Position } from './diagnostic.ts';
import type { ScriptError } from './errors.ts';
import type { HeaderCache } from './header-cache.ts';
import type {
  ListPort,
  MailboxPort,
  NotifyPort,
  OutgoingMail,
  OutgoingPort,
  ProgramPort,
  SieveEnvelope,
  TrackingPort,
} from './ports.ts';
import type { Entry, EvaluationStep, MutableEntry, RunStatus } from './result.ts';
import type { SettingsInput, SieveSettings } from './settings.ts';

// --- definitions

export interface AddressParts {
  readonly local: string;
  readonly domain: string;
  readonly text: string;
}
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
  part(address: AddressParts, run: Run): string | undefined;
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
  compile(text: string, scope: Unit, complain: Complain): Template;
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
  readonly finish?: (scope: Unit) => void;
  /** Lines for ManageSieve, e.g. methods of `notify`. */
  readonly capability?: string;
}

export type AnyWord = CommandDefinition | TestDefinition;
export type WordNode = CommandNode | TestNode;

// --- the compiled form

/** A constant, or pieces of which some are read when the string is evaluated. */
export type Template = string | readonly TemplatePiece[];
export type TemplatePiece = string | { readonly read: (run: Run) => string };

export type Argument =
  | { readonly kind: 'string'; readonly value: Template; readonly definition: ValueCheck }
  | {
      readonly kind: 'string-list';
      readonly values: readonly Template[];
      readonly constant: readonly string[] | undefined;
      readonly definition: ValueCheck;
    }
  | { readonly kind: 'number'; readonly value: number };

/** Where the value of an argument is checked when it is evaluated. */
export type ValueCheck = Pick<TagDefinition, 'check'>;

export interface Matching {
  readonly type: MatchTypeDefinition;
  readonly parameter: Argument | undefined;
  readonly comparator: ComparatorDefinition;
  /** Prepared constant keys. */
  readonly prepared: Map<string, unknown>;
}

interface CompiledBase {
  readonly line: number;
  readonly column: number;
  /** Extension that defines it. */
  readonly extension: ExtensionDefinition;
  /** The extension was only made available by a test (RFC 5463): it must have been evaluated. */
  readonly late: boolean;
  /** Positional arguments and values of tags by name; a switch is `true`. */
  readonly arguments: ReadonlyMap<string, Argument | true>;
  readonly tests: readonly CompiledTest[];
  readonly matching: Matching | undefined;
  readonly addressPart: AddressPartDefinition | undefined;
  readonly modifiers: readonly ModifierDefinition[];
  /** Tags of other extensions that act on the entry. */
  readonly appliers: readonly NonNullable<TagDefinition['apply']>[];
  readonly fieldHooks: readonly FieldHooks[];
  /** Left by `validate`. */
  readonly data: unknown;
}

export interface CompiledTest extends CompiledBase {
  readonly kind: 'test';
  readonly definition: TestDefinition;
}
export interface CompiledCommand extends CompiledBase {
  readonly kind: 'command';
  readonly definition: CommandDefinition;
  readonly block: readonly CompiledCommand[] | undefined;
}
export type CompiledWord = CompiledTest | CompiledCommand;

/** A constant `include` of a script. */
export interface IncludeReference {
  readonly location: 'personal' | 'global';
  readonly name: string;
  readonly optional: boolean;
  readonly line: number;
  readonly column: number;
}

export interface Program {
  readonly name: string;
  readonly script: Script;
  readonly registry: Registry;
  readonly commands: readonly CompiledCommand[];
  /** Active at the end of the script, in order of `require`. */
  readonly extensions: readonly ExtensionDefinition[];
  readonly includes: readonly IncludeReference[];
  readonly warnings: readonly Diagnostic[];
}

// --- the registry

export interface Defined<D> {
  readonly extension: ExtensionDefinition;
  readonly definition: D;
}

export interface Registry {
  readonly extensions: ReadonlyMap<string, ExtensionDefinition>;
  readonly actions: ReadonlyMap<string, ActionDefinition>;
  /** What `require` knows; undefined where it is unknown. */
  capability(name: string): ExtensionDefinition | undefined;
  /** Names for `require` and the SIEVE line of ManageSieve, sorted. */
  readonly capabilities: readonly string[];
  commands(name: string): readonly Defined<CommandDefinition>[];
  tests(name: string): readonly Defined<TestDefinition>[];
  readonly commandNames: readonly string[];
  readonly testNames: readonly string[];
  comparator(name: string): Defined<ComparatorDefinition> | undefined;
  namespace(name: string): Defined<NamespaceDefinition> | undefined;
}

export interface RegistryOptions {
  /** Extensions that are off by default and wanted. */
  readonly enable?: readonly string[];
  readonly disable?: readonly string[];
}

// --- results

export interface SieveResult {
  readonly status: RunStatus;
  /** In order, the implicit keep last where nothing cancelled it. */
  readonly actions: readonly Entry[];
  readonly diagnostics: readonly Diagnostic[];
  /** The current message at the end, edits included. */
  readonly message: Message;
  readonly original: Message;
  /** As the run left it. */
  readonly envelope: SieveEnvelope;
  /** Whether the implicit keep is in effect. */
  readonly keep: boolean;
  readonly steps: number;
  readonly trace: readonly EvaluationStep[];
  readonly registry: Registry;
  /** Of the actions, by name, as the scripts that took them know them: they may speak different languages. */
  readonly definitions: ReadonlyMap<string, ActionDefinition>;
  readonly runs: number;
  /** For `execute`, after all actions succeeded. */
  readonly afterwards: readonly ((execution: Execution) => Promise<void>)[];
}

// --- handlers' surroundings

/** One evaluation of one word: what a handler is given. Arguments are evaluated when they are asked for. */
export interface Call {
  readonly word: CompiledWord;
  readonly run: Run;
  /** The command in whose block this one stands, or whose test this is. */
  readonly parent: Call | undefined;
  /** What the handler of the command directly before gave back. */
  readonly previous: unknown;
  readonly line: number;
  readonly column: number;
  readonly name: string;
  /** What `validate` left as `word.data`. */
  readonly data: unknown;

  /** Arguments by the names of the definition, values of tags by the tag's name. */
  has(name: string): boolean;
  /** Undefined where the argument is not given. */
  maybeString(name: string): string | undefined;
  string(name: string): string;
  maybeStrings(name: string): readonly string[] | undefined;
  strings(name: string): readonly string[];
  maybeNumber(name: string): number | undefined;
  number(name: string): number;
  /** Whether every string of the argument was known when the script was compiled. */
  isConstant(name: string): boolean;
  /** For the engine: the value that follows a match type. */
  evaluateParameter(argument: Extract<Argument, { readonly kind: 'string' }>): string;

  readonly testCount: number;
  /** Evaluates a sub-test. */
  test(at?: number): Later<boolean>;
  /**
   * Runs the block; for a command without one, nothing happens. False where it was left before its end, then a command
   * that repeats its block must not begin again.
   */
  block(): Promise<boolean>;
  /** Ends the script, and every script that includes it. */
  stop(): void;
  /** Ends this script only. */
  return(): void;
  /** Leaves the innermost enclosing block whose command is `of`: a name, a condition, or by default any. */
  leave(of?: string | ((block: Call) => boolean)): void;
  /** To throw: the script fails here (RFC 5228 §2.10.6). */
  error(message: string): ScriptError;

  /** Compares with the match type and comparator of this word; keys by the name of the argument or as they are. */
  matches(keys: string | readonly string[], values: readonly string[]): Later<boolean>;
  /** For the trace: what was looked at, where `matches` is not used. */
  looked(values: readonly string[]): void;
  /** The part of an address that this word's `:domain`, `:user` … asks for; default all of it. */
  addressPart(address: AddressParts): string | undefined;
  /** Header fields of these names in order, where this word's tags such as `:mime` and `:index` say. */
  fields(names: readonly string[]): Later<readonly HeaderField[]>;
  /** What the fields of these names hold: decoded text, or what a tag such as `:param` takes out of them. */
  fieldValues(names: readonly string[]): Later<readonly string[]>;
  /** What a tag such as `:param` takes out of a field; undefined where no tag does. */
  readField(field: HeaderField): readonly string[] | undefined;

  /** Adds the action to the result, after this command's tags have changed it. */
  act(deed: Deed): Later<void>;
}

/** An action as its command describes it. */
export interface Deed {
  readonly action: string;
  readonly arguments: Record<string, unknown>;
  /** Whether the implicit keep is cancelled, where no tag such as `:copy` says otherwise. */
  readonly cancelsKeep: boolean;
}

export interface Variables {
  /** Unknown variables are empty. Names are case-insensitive. */
  get(name: string): string;
  has(name: string): boolean;
  /** Set by this script, and not shared. */
  isOwn(name: string): boolean;
  /** Cut to the size limit (RFC 5229 §6); throws `ScriptError` beyond the number of variables. */
  set(name: string, value: string): void;
  setIn(values: Map<string, string>, name: string, value: string): void;
  /** From here on `name` lives in `values`. */
  share(name: string, values: Map<string, string>): void;
}

/** What ended the normal order of commands, until somebody takes it. */
export type Leaving =
  | { readonly kind: 'stop' }
  | { readonly kind: 'return' }
  | { readonly kind: 'leave'; readonly takes: (block: Call) => boolean };

/** The context of a run: message, envelope, result so far, variables, budgets. */
export interface Run {
  readonly host: SieveHost;
  readonly diagnostics: readonly Diagnostic[];
  /** Captures of the last successful match, `[0]` the whole; undefined where no active extension asked for them. */
  captures: readonly string[] | undefined;
  leaving: Leaving | undefined;
  /**
   * The part of the message that a loop is at, as a message of its own, for what looks at "the message" within it
   * (RFC 6609 §3.5); undefined outside of loops.
   */
  part: (() => Promise<Message>) | undefined;
  /** As it came. */
  readonly original: Message;
  /** The current message: tests see it, actions store and send it. */
  readonly message: Message;
  /** Decoded header fields of the current message. */
  readonly headers: HeaderCache;
  readonly envelope: SieveEnvelope;
  /** The script being evaluated, included ones too. */
  readonly program: Program;
  readonly entries: readonly Entry[];
  /** Whether the implicit keep is still in effect. */
  readonly keep: boolean;
  readonly steps: number;
  /** Variables of the script that is being evaluated. */
  readonly variables: Variables;

  /** Nothing read from the message before is remembered. */
  replaceMessage(message: Message | Uint8Array): void;
  /** Another message to sort from here on: it is the current one and the one that an error would keep. */
  newMessage(message: Message | Uint8Array): void;
  changeEnvelope(change: Partial<SieveEnvelope>): void;
  setting<K extends keyof SieveSettings>(key: K): SieveSettings[K];
  /** One value per key and run. Keys are compared by identity: use a symbol or an object of your own. */
  state<T>(key: unknown, make: () => T): T;
  /** As `state`, but apart for each included script. */
  scriptState<T>(key: unknown, make: () => T): T;

  /** Costs steps. Throws `BudgetError` when they or the CPU time are used up. */
  spend(steps: number): void;
  /** Awaits a port: its time is not the script's. */
  wait<T>(work: Promise<T>): Promise<T>;

  commands(list: readonly CompiledCommand[], parent: Call | undefined): Promise<void>;
  test(word: CompiledTest, parent: Call | undefined): Later<boolean>;
  /** RFC 5463: from here on the words of this extension, and of those it implies, may be used. */
  enable(name: string): void;
  /** Evaluates another script within this run, with variables and state of its own. */
  runScript(program: Program): Promise<void>;

  /** Adds an action, checked against the earlier ones (RFC 5228 §2.10.3, §2.10.4). */
  add(draft: MutableEntry): void;
  /** To be done by `execute` after all actions succeeded, e.g. remembering what was seen (RFC 7352 §3). */
  afterwards(work: (execution: Execution) => Promise<void>): void;
  /** RFC 5228 §2.10.2. */
  cancelKeep(): void;
  restoreKeep(): void;
  note(severity: Diagnostic['severity'], line: number, message: string): void;
  /** What has been decided so far, as if the script ended here: for `execute` or for a look at its actions. */
  resultSoFar(): SieveResult;
  /** Forgets what has been decided so far; the implicit keep is in effect again. */
  resetResult(): void;
}

/** What an action is given when it is carried out. */
export interface Execution {
  readonly host: SieveHost;
  readonly result: SieveResult;
  /** Addresses without angle brackets. */
  readonly envelope: SieveEnvelope;
  /** The message as it came: what reports are about (RFC 5293 §7). */
  readonly original: Message;
  /** By which the entry being carried out explains itself. */
  detail: string | undefined;
  /** Refused in the session, with the text for the client. */
  refused: string | undefined;
  setting<K extends keyof SieveSettings>(key: K): SieveSettings[K];
  /** One value per key for all actions of this result. */
  state<T>(key: unknown, make: () => T): T;
  /** The action was not needed, and why. */
  skip(detail: string): void;
  note(severity: Diagnostic['severity'], entry: Entry, message: string): void;
  send(mail: OutgoingMail): Promise<void>;
}

/** A script while it is compiled. */
export interface Unit {
  readonly registry: Registry;
  readonly includes: IncludeReference[];
  readonly extensions: readonly ExtensionDefinition[];
  isActive(name: string): boolean;
  /** With all that it implies. */
  activate(extension: ExtensionDefinition): void;
  /** By a test (RFC 5463): its words may be used once that test was evaluated. */
  activateLate(extension: ExtensionDefinition): void;
  /** `require` of one capability; false where there is none of that name. */
  require(name: string, at: Position): boolean;
  report(at: Position, message: string, severity?: Diagnostic['severity']): void;
  /** One value per key and script, for definitions that must remember something. */
  state<T>(key: unknown, make: () => T): T;
}

/** One word while it is compiled. */
export interface WordScope {
  readonly unit: Unit;
  readonly node: WordNode;
  readonly definition: AnyWord;
  readonly name: string;
  /** The command before this one in the same block. */
  readonly previous: WordScope | undefined;
  /** Commands in whose block this one stands, the innermost first. */
  readonly parents: readonly WordScope[];
  /** Values of the sub-tests that are known already. */
  readonly constants: readonly (boolean | undefined)[];
  /** For `run` as `call.data`. */
  data: unknown;
  has(name: string): boolean;
  /** The string, where it is given and constant. */
  string(name: string): string | undefined;
  /** Those strings of a list that are constant. */
  strings(name: string): readonly string[];
  number(name: string): number | undefined;
  /** Reports at an argument, or at the word where none is named. */
  error(message: string, argument?: string): void;
  warn(message: string, argument?: string): void;
}

// --- the host

/** Source, or a program compiled earlier; undefined where there is no script of that name. */
export interface ScriptPort {
  load(location: 'personal' | 'global', name: string): Promise<Program | string | Uint8Array | undefined>;
}

export interface SieveHost {
  /** What is sorted. Bytes with CRLF or LF. */
  readonly message: Message | Uint8Array;
  readonly envelope: SieveEnvelope;
  readonly clock: Clock;
  /** Flags that the message has already; none at delivery. */
  readonly flags?: readonly string[];
  readonly mailboxes: MailboxPort;
  readonly outgoing: OutgoingPort;
  /** Read anew each time a value is wanted: they may change between runs and during one. */
  readonly settings?: SettingsInput;
  readonly scripts?: ScriptPort;
  /** Name under which the script being run is stored, so that it cannot include itself (RFC 6609 §3.1). */
  readonly scriptName?: string;
  readonly tracking?: TrackingPort;
  readonly lists?: ListPort;
  readonly programs?: ProgramPort;
  readonly notify?: NotifyPort;
  /** RFC 5183 items, lower case, beyond those the engine knows (`name`, `version`); undefined: unknown item. */
  environment?(item: string): string | undefined;
  /** Where `debug_log` and `report` traces go. */
  log?(line: number, text: string): void;
  /** Unique text for Message-ID and boundaries; default: random. */
  newId?(): string;
}
