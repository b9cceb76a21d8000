// The compiled form of a script: words with their definitions looked up, arguments checked and prepared. Immutable, free
// of any message, shared by all runs; keep it as long as the script does not change.
import type { Script } from './ast.ts';
import type { Diagnostic } from './diagnostic.ts';
import type {
  AddressPartDefinition,
  CommandDefinition,
  ComparatorDefinition,
  ExtensionDefinition,
  FieldHooks,
  MatchTypeDefinition,
  ModifierDefinition,
  TagDefinition,
  TestDefinition,
} from './extension.ts';
import type { Registry } from './registry.ts';
import type { Run } from './run.ts';

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
