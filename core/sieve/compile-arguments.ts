// The arguments of one word: tags first, then positional ones (RFC 5228 §2.6), each checked against its definition.

import type { ArgumentNode, NumberNode, StringListNode, StringNode, TagNode } from './ast.ts';
import type {
  AddressPartDefinition,
  Argument,
  ArgumentDefinition,
  ArgumentType,
  Complain,
  EngineGroup,
  ExtensionDefinition,
  FieldHooks,
  Matching,
  MatchTypeDefinition,
  ModifierDefinition,
  TagDefinition,
  Template,
  ValueCheck,
} from './contract.ts';
import { quote } from './diagnostic.ts';
import type { ScopedWord, ScriptUnit } from './scope.ts';
import { constantOf, kindName } from './scope.ts';

interface Tags {
  readonly matching: Matching | undefined;
  readonly addressPart: AddressPartDefinition | undefined;
  readonly modifiers: readonly ModifierDefinition[];
  readonly appliers: readonly NonNullable<TagDefinition['apply']>[];
  readonly fieldHooks: readonly FieldHooks[];
}

/** A tag that a word may take, wherever it comes from. */
type TagChoice =
  | { readonly kind: 'own'; readonly tag: TagDefinition }
  | { readonly kind: 'match-type'; readonly matchType: MatchTypeDefinition }
  | { readonly kind: 'comparator' }
  | { readonly kind: 'address-part'; readonly part: AddressPartDefinition }
  | { readonly kind: 'modifier'; readonly modifier: ModifierDefinition };

const typeNames: Readonly<Record<ArgumentType, string>> = {
  string: 'a string',
  'string-list': 'a list of strings',
  number: 'a number',
};

/** Fills `scope.arguments`; reports one error per faulty argument. */
export function readArguments(scope: ScopedWord, kind: 'command' | 'test'): Tags {
  return new ArgumentReader(scope, kind).read();
}

/** Whether the word could have this tag, for hints. */
export const takesTag = (scope: ScopedWord, name: string): boolean => new ArgumentReader(scope, 'test').takes(name);

class ArgumentReader {
  readonly #scope: ScopedWord;
  readonly #unit: ScriptUnit;
  readonly #what: string;
  readonly #given = new Map<string, TagNode>();
  readonly #appliers: NonNullable<TagDefinition['apply']>[] = [];
  readonly #fieldHooks: FieldHooks[] = [];
  readonly #modifiers: ModifierDefinition[] = [];
  readonly #validators: NonNullable<TagDefinition['validate']>[] = [];
  #matchType: MatchTypeDefinition | undefined;
  #matchParameter: Argument | undefined;
  #comparator: string | undefined;
  #addressPart: AddressPartDefinition | undefined;
  #faulty = false;
  readonly #unchecked = new Set<string>();

  constructor(scope: ScopedWord, kind: 'command' | 'test') {
    this.#scope = scope;
    this.#unit = scope.unit;
    this.#what = `${kind} ${quote(scope.name)}`;
  }

  #uses(group: EngineGroup): boolean {
    return this.#scope.definition.uses?.includes(group) === true;
  }

  takes(name: string): boolean {
    return this.#choice(name) !== undefined;
  }

  read(): Tags {
    const errors = this.#unit.diagnostics.length;
    const nodes = this.#scope.node.arguments;
    const positional: Exclude<ArgumentNode, TagNode>[] = [];
    for (let at = 0; at < nodes.length; at += 1) {
      const node = nodes[at] as ArgumentNode;
      if (node.kind !== 'tag') positional.push(node);
      else {
        if (positional.length > 0) {
          this.#unit.report(
            node.span,
            `Tag ${quote(`:${node.name}`)} of ${this.#what} must stand before its other arguments`,
          );
          this.#faulty = true;
        }
        at = this.#tag(node, nodes, at);
      }
    }
    if (!this.#faulty) this.#positional(positional);
    const matching = this.#matching();
    if (this.#unit.diagnostics.length === errors) for (const validate of this.#validators) validate(this.#scope);
    return {
      matching,
      addressPart: this.#addressPart,
      modifiers: this.#modifiers.sort((a, b) => b.precedence - a.precedence),
      appliers: this.#appliers,
      fieldHooks: this.#fieldHooks,
    };
  }

  #choice(name: string): TagChoice | undefined {
    const own = this.#scope.definition.tags?.find(tag => tag.name === name);
    if (own) return { kind: 'own', tag: own };
    for (const extension of this.#unit.extensions) {
      const choice = this.#offered(extension, name);
      if (choice) return choice;
    }
    return name === 'comparator' && this.#uses('comparator') ? { kind: 'comparator' } : undefined;
  }

  #offered(extension: ExtensionDefinition, name: string): TagChoice | undefined {
    const tag = extension.tags?.find(candidate => candidate.name === name && this.#fits(candidate));
    if (tag) return { kind: 'own', tag };
    const matchType = this.#uses('match-type') && extension.matchTypes?.find(candidate => candidate.name === name);
    if (matchType) return { kind: 'match-type', matchType };
    const part = this.#uses('address-part') && extension.addressParts?.find(candidate => candidate.name === name);
    if (part) return { kind: 'address-part', part };
    const modifier = this.#uses('modifier') && extension.modifiers?.find(candidate => candidate.name === name);
    return modifier ? { kind: 'modifier', modifier } : undefined;
  }

  #fits(tag: TagDefinition): boolean {
    if (tag.on?.includes(this.#scope.name)) return true;
    if (tag.with === undefined) return false;
    const own = this.#scope.definition.tags?.some(other => tag.with?.includes(other.name));
    return (
      own === true ||
      this.#unit.extensions.some(extension =>
        extension.tags?.some(other => tag.with?.includes(other.name) && other.on?.includes(this.#scope.name)),
      )
    );
  }

  // Returns the index of the last node that belongs to the tag.
  #tag(node: TagNode, nodes: readonly ArgumentNode[], at: number): number {
    const choice = this.#choice(node.name);
    if (!choice) {
      this.#faulty = true;
      this.#unit.reportOnce(`tag ${this.#what} ${node.name}`, node.span, this.#unknownTag(node.name));
      return at;
    }
    const group = choice.kind === 'own' ? (choice.tag.group ?? `tag ${node.name}`) : choice.kind;
    const key = choice.kind === 'modifier' ? `modifier ${choice.modifier.precedence}` : group;
    const before = this.#given.get(key);
    if (before !== undefined) {
      const both = before.name === node.name ? 'is given twice' : `cannot be combined with ${quote(`:${before.name}`)}`;
      this.#unit.report(node.span, `Tag ${quote(`:${node.name}`)} of ${this.#what} ${both}`);
    }
    this.#given.set(key, node);
    return this.#accept(choice, node, nodes, at);
  }

  #accept(choice: TagChoice, node: TagNode, nodes: readonly ArgumentNode[], at: number): number {
    const scope = this.#scope;
    scope.spans.set(node.name, node.span);
    if (choice.kind === 'address-part') this.#addressPart = choice.part;
    if (choice.kind === 'modifier') this.#modifiers.push(choice.modifier);
    if (choice.kind === 'match-type') {
      this.#matchType = choice.matchType;
      if (!choice.matchType.parameter) return at;
      const value = this.#parameter(node, { ...choice.matchType.parameter, type: 'string' }, nodes[at + 1]);
      if (value) this.#matchParameter = value;
      return value ? at + 1 : at;
    }
    if (choice.kind === 'comparator') {
      const value = this.#parameter(node, { name: 'comparator', type: 'string', literal: true }, nodes[at + 1]);
      if (value?.kind === 'string') this.#comparator = constantOf(value.value);
      return value ? at + 1 : at;
    }
    if (choice.kind !== 'own') return at;
    const { tag } = choice;
    for (const name of tag.unchecked ?? []) this.#unchecked.add(name);
    if (tag.apply) this.#appliers.push(tag.apply);
    if (tag.fields) this.#fieldHooks.push(tag.fields);
    if (tag.validate) this.#validators.push(tag.validate);
    if (tag.type === undefined) {
      scope.arguments.set(tag.name, true);
      return at;
    }
    const value = this.#parameter(node, { ...tag, type: tag.type }, nodes[at + 1]);
    if (value) scope.arguments.set(tag.name, value);
    return value ? at + 1 : at;
  }

  #parameter(tag: TagNode, definition: ArgumentDefinition, node: ArgumentNode | undefined): Argument | undefined {
    const name = quote(`:${tag.name}`);
    if (node === undefined || node.kind === 'tag' || !fitsType(node, definition.type)) {
      this.#faulty = true;
      const found = node === undefined ? 'nothing' : kindName(node.kind);
      this.#unit.report(
        tag.span,
        `Tag ${name} of ${this.#what} must be followed by ${typeNames[definition.type]}, found ${found}`,
      );
      return undefined;
    }
    this.#scope.spans.set(tag.name, node.span);
    return this.#value(definition, node);
  }

  #unknownTag(name: string): string {
    const tag = quote(`:${name}`);
    for (const extension of this.#unit.registry.extensions.values())
      if (!extension.hidden && !this.#unit.isActive(extension.name) && this.#offered(extension, name))
        return `Tag ${tag} of ${this.#what} needs 'require "${extension.name}";' at the top of the script`;
    return `Unknown tag ${tag} of ${this.#what}`;
  }

  #positional(nodes: readonly Exclude<ArgumentNode, TagNode>[]): void {
    const wanted = this.#scope.definition.arguments ?? [];
    const least = wanted.filter(argument => !argument.optional).length;
    if (nodes.length < least || nodes.length > wanted.length) {
      const names = wanted.length === 0 ? '' : ` (${wanted.map(argument => argument.name).join(', ')})`;
      const count = least === wanted.length ? String(least) : `${least} to ${wanted.length}`;
      const plural = wanted.length === 1 ? '' : 's';
      const text = wanted.length === 0 ? 'no arguments' : `${count} argument${plural}${names}`;
      this.#scope.error(`The ${this.#what} takes ${text}, found ${nodes.length}`);
      return;
    }
    let spare = nodes.length - least;
    let at = 0;
    for (const definition of wanted) {
      if (definition.optional && spare === 0) continue;
      if (definition.optional) spare -= 1;
      const node = nodes[at] as Exclude<ArgumentNode, TagNode>;
      at += 1;
      this.#scope.spans.set(definition.name, node.span);
      const found = kindName(node.kind);
      if (fitsType(node, definition.type)) this.#scope.arguments.set(definition.name, this.#value(definition, node));
      else {
        const type = typeNames[definition.type];
        const text = `Argument ${at} (${definition.name}) of ${this.#what} must be ${type}, found ${found}`;
        this.#unit.report(this.#scope.spans.get(definition.name) ?? this.#scope.node.nameSpan, text);
      }
    }
  }

  #value(definition: ArgumentDefinition, node: NumberNode | StringNode | StringListNode): Argument {
    if (node.kind === 'number') return { kind: 'number', value: node.value };
    const checked = definition.check && !this.#unchecked.has(definition.name);
    const check: ValueCheck = checked && definition.check ? { check: definition.check } : {};
    const items = node.kind === 'string' ? [node] : node.items;
    const values = items.map(item => this.#template(definition, item));
    if (definition.type === 'string') return { kind: 'string', value: values[0] ?? '', definition: check };
    const constant = values.every(value => typeof value === 'string') ? (values as readonly string[]) : undefined;
    return { kind: 'string-list', values, constant, definition: check };
  }

  #template(definition: ArgumentDefinition, node: StringNode): Template {
    const complain: Complain = (message, severity) => this.#unit.report(node.span, message, severity);
    let template: Template = node.value;
    for (const stage of this.#unit.stringStages()) {
      // A later stage sees what an earlier one left constant.
      if (typeof template === 'string') template = stage.compile(template, this.#unit, complain);
    }
    if (typeof template !== 'string' && definition.literal) {
      complain(`Expected a constant string for ${definition.name} of ${this.#what}, found variables in it`);
      return node.value;
    }
    if (typeof template === 'string' && !this.#unchecked.has(definition.name))
      definition.check?.(template, complain, this.#unit);
    return template;
  }

  #matching(): Matching | undefined {
    if (!this.#uses('match-type')) return undefined;
    const { registry } = this.#unit;
    const type = this.#matchType ?? this.#defaultMatchType();
    const name = this.#comparator ?? 'i;ascii-casemap';
    const at = this.#scope.spans.get('comparator') ?? this.#scope.node.nameSpan;
    const comparator = registry.comparator(name);
    if (!comparator) this.#unit.report(at, `Unknown comparator ${quote(name)}`);
    else if (!this.#unit.isActive(comparator.extension.name))
      this.#unit.report(
        at,
        `Comparator ${quote(name)} needs 'require "${comparator.extension.name}";' at the top of the script`,
      );
    else if (type.needs && !comparator.definition.operations.includes(type.needs))
      this.#unit.report(at, `Comparator ${quote(name)} cannot be used with ':${type.name}'`);
    if (!comparator) return undefined;
    if (type.checkKey) this.#checkKeys(type.checkKey);
    return { type, parameter: this.#matchParameter, comparator: comparator.definition, prepared: new Map() };
  }

  // What values are matched against is the last argument of every word that matches.
  #checkKeys(check: NonNullable<MatchTypeDefinition['checkKey']>): void {
    const name = this.#scope.definition.arguments?.at(-1)?.name ?? '';
    const at = this.#scope.spans.get(name) ?? this.#scope.node.nameSpan;
    for (const key of this.#scope.strings(name))
      check(key, (message, severity) => this.#unit.report(at, message, severity));
  }

  #defaultMatchType(): MatchTypeDefinition {
    for (const extension of this.#unit.extensions) {
      const is = extension.matchTypes?.find(type => type.name === 'is');
      if (is) return is;
    }
    throw new Error("No extension of the registry defines the match type 'is'");
  }
}

function fitsType(node: ArgumentNode, type: ArgumentType): boolean {
  if (type === 'number') return node.kind === 'number';
  if (type === 'string-list') return node.kind === 'string' || node.kind === 'string-list';
  return node.kind === 'string';
}
