// MIME parts: tests on them, loops, replacement, enclosure and text extraction, RFC 5703.

import { decodeBodyText } from '../../mail/body.ts';
import { parseContentType, parseDisposition } from '../../mail/content-type.ts';
import { renderField } from '../../mail/header-edit.ts';
import type { HeaderField } from '../../mail/headers.ts';
import { parseHeaders } from '../../mail/headers.ts';
import type { Message } from '../../mail/message.ts';
import { withBody } from '../../mail/message.ts';
import { bufferRope, ropeBytes } from '../../mail/rope.ts';
import type { Field } from '../compose.ts';
import { addressField, commonFields, multipart, renderFields, textPart } from '../compose.ts';
import type { Call, Complain, TagDefinition, WordScope } from '../contract.ts';
import { quote } from '../diagnostic.ts';
import { fromFields } from '../edit-message.ts';
import { defineExtension } from '../extension.ts';
import { htmlText } from '../html-text.ts';
import { currentLoop, entityHeaders, forEveryPart, isWhole, replacePart } from './mime-loop.ts';
import { checkOutboundAddress } from './redirect.ts';
import type { VariableWriter } from './variables.ts';
import { variableWriter } from './variables.ts';

const words = ['header', 'address', 'exists'];
const needMime = (word: WordScope): void => {
  if (!word.has('mime')) word.error(`Tags such as ':anychild' and ':param' of '${word.name}' need ':mime'`);
};

/** RFC 5703 §4.2: parts of Content-Type and Content-Disposition; of any other field the empty string. */
type Facet = 'type' | 'subtype' | 'contenttype';
function facet(field: HeaderField, which: Facet): string {
  const name = field.name.toLowerCase();
  // As written: which letters are the same is for the comparator to say.
  const [, type = '', subtype = ''] = /^\s*([^\s/;()]+)\s*(?:\/\s*([^\s;()]+))?/.exec(field.value) ?? [];
  if (name === 'content-type' && subtype !== '')
    return which === 'type' ? type : which === 'subtype' ? subtype : `${type}/${subtype}`;
  return name === 'content-disposition' && which !== 'subtype' ? type : '';
}

function parameters(field: HeaderField, names: readonly string[]): readonly string[] {
  const name = field.name.toLowerCase();
  const params =
    name === 'content-type'
      ? parseContentType(field.value)?.params
      : name === 'content-disposition'
        ? parseDisposition(field.value)?.params
        : undefined;
  return names.map(param => params?.get(param.toLowerCase())).filter(value => value !== undefined);
}

const facetTag = (name: Facet): TagDefinition => ({
  name,
  group: 'mime option',
  on: ['header'],
  validate: needMime,
  fields: { values: field => [facet(field, name)] },
});

export const mime = defineExtension({
  name: 'mime',
  tags: [
    { name: 'mime', on: words, fields: { entities: entityHeaders } },
    { name: 'anychild', on: words, validate: needMime },
    facetTag('type'),
    facetTag('subtype'),
    facetTag('contenttype'),
    {
      name: 'param',
      type: 'string-list',
      group: 'mime option',
      on: ['header'],
      validate: needMime,
      fields: { values: (field, call) => parameters(field, call.strings('param')) },
    },
  ],
});

const loopName: TagDefinition = { name: 'name', type: 'string', literal: true };

export const foreverypart = defineExtension({
  name: 'foreverypart',
  commands: [
    { name: 'foreverypart', tags: [loopName], block: true, run: forEveryPart },
    {
      name: 'break',
      tags: [loopName],
      inside: ['foreverypart'],
      validate(word) {
        const wanted = word.string('name');
        const known = word.parents.some(parent => parent.name === 'foreverypart' && parent.string('name') === wanted);
        if (wanted !== undefined && !known) word.error(`No enclosing 'foreverypart' is named ${quote(wanted)}`, 'name');
      },
      run(call) {
        const wanted = call.maybeString('name');
        call.leave(
          block => block.name === 'foreverypart' && (wanted === undefined || block.maybeString('name') === wanted),
        );
      },
    },
  ],
});

function checkEntity(text: string, complain: Complain): void {
  const section = /^([\s\S]*?\r\n)(?:\r\n|$)/.exec(text)?.[1] ?? '';
  const fields = [...parseHeaders(Buffer.from(section))];
  if (fields.length === 0 || fields.some(field => !/^(content-[\x21-\x39\x3b-\x7e]+|mime-version)$/i.test(field.name)))
    complain(`Replacement with ':mime' must begin with MIME header fields, found ${quote(text.slice(0, 40))}`);
}

/** Header and body of an entity, from a `:mime` text or a plain one. */
function entityOf(call: Call): { readonly header: Buffer; readonly body: Buffer } {
  const text = call.string('replacement');
  if (!call.has('mime')) {
    const part = textPart(text);
    return { header: renderFields(part.fields), body: part.body };
  }
  const end = text.startsWith('\r\n') ? 0 : text.indexOf('\r\n\r\n');
  if (end === -1) return { header: Buffer.from(text.replace(/(\r\n)?$/, '\r\n')), body: Buffer.alloc(0) };
  const cut = end === 0 ? 0 : end + 2;
  return { header: Buffer.from(text.slice(0, cut)), body: Buffer.from(text.slice(cut + 2)) };
}

const isMimeField = (field: HeaderField): boolean => /^(content-.*|mime-version)$/i.test(field.name);

/** RFC 5703 §5: the replaced Subject and From stay readable as Original-Subject and Original-From. */
function replaced(
  fields: readonly HeaderField[],
  name: 'Subject' | 'From',
  value: string | undefined,
): (HeaderField | Buffer)[] {
  if (value === undefined) return [...fields];
  const old = fields.find(field => field.name.toLowerCase() === name.toLowerCase());
  const kept: (HeaderField | Buffer)[] = fields.filter(field => field.name.toLowerCase() !== name.toLowerCase());
  if (old) kept.push(renderField(`Original-${name}`, old.value));
  kept.push(renderField(name, value));
  return kept;
}

function replaceWhole(call: Call, header: Buffer, body: Buffer): Message {
  const { message } = call.run;
  const from = call.maybeString('from');
  let fields = [...message.headers].filter(field => !isMimeField(field));
  const subject = replaced(fields, 'Subject', call.maybeString('subject'));
  fields = subject.filter((field): field is HeaderField => !Buffer.isBuffer(field));
  const made = subject.filter((field): field is Buffer => Buffer.isBuffer(field));
  const all = [...replaced(fields, 'From', from && addressField(from)), ...made];
  const mimeVersion = /^mime-version:/im.test(header.toString('latin1')) ? [] : [renderField('MIME-Version', '1.0')];
  return withBody(fromFields(message, [...all, ...mimeVersion, header]), bufferRope(body));
}

export const replace = defineExtension({
  name: 'replace',
  commands: [
    {
      name: 'replace',
      tags: [
        { name: 'mime' },
        { name: 'subject', type: 'string' },
        { name: 'from', type: 'string', check: checkOutboundAddress },
      ],
      arguments: [{ name: 'replacement', type: 'string' }],
      validate(word) {
        const text = word.string('replacement');
        if (word.has('mime') && text !== undefined) checkEntity(text, message => word.error(message, 'replacement'));
      },
      run(call) {
        const { run } = call;
        const { header, body } = entityOf(call);
        run.spend(1 + (body.length >> 8));
        const loop = currentLoop(run);
        // RFC 5703 §5: `:subject` and `:from` count where the whole message is replaced.
        if (!loop || isWhole(loop.part)) run.replaceMessage(replaceWhole(call, header, body));
        else replacePart(run, loop, Buffer.concat([header, Buffer.from('\r\n'), body]));
      },
    },
  ],
});

/** RFC 5703 §6: the original becomes an attachment of a new message. */
async function enclose(call: Call): Promise<void> {
  const { run } = call;
  const { message } = run;
  const original = await run.wait(ropeBytes(message.rope));
  run.spend(1 + (original.length >> 10));
  const text = textPart(call.string('text'));
  const attached = { fields: [['Content-Type', 'message/rfc822'] as const], body: original };
  const part = multipart(run.host, 'multipart/mixed', [text, attached]);
  const kept = [...message.headers].filter(field =>
    /^(received|return-path|from|to|cc|reply-to|sender)$/i.test(field.name),
  );
  const subject = call.maybeString('subject');
  const old = message.headers.get('subject');
  const fields: (HeaderField | Buffer)[] = [...kept];
  if (subject !== undefined) fields.push(renderField('Subject', subject));
  else if (old) fields.push(old);
  for (const wish of call.strings('headers')) fields.push(...wished(wish, message));
  const common = commonFields(run.host).filter(([name]) => !fields.some(field => nameOf(field) === name.toLowerCase()));
  const made: Field[] = [...common, ...part.fields];
  run.replaceMessage(withBody(fromFields(message, [...fields, renderFields(made)]), bufferRope(part.body)));
}

const nameOf = (field: HeaderField | Buffer): string =>
  (Buffer.isBuffer(field) ? field.toString('latin1').split(':', 1)[0] : field.name)?.toLowerCase() ?? '';

/** `Name: value` is a new field, a bare name copies the original's. */
function wished(wish: string, message: Message): readonly (HeaderField | Buffer)[] {
  const found = /^([\x21-\x39\x3b-\x7e]{1,76}):\s*([\s\S]*)$/.exec(wish);
  return found ? [renderField(found[1] as string, found[2] as string)] : message.headers.all(wish);
}

export const encloseExtension = defineExtension({
  name: 'enclose',
  commands: [
    {
      name: 'enclose',
      tags: [
        { name: 'subject', type: 'string' },
        { name: 'headers', type: 'string-list' },
      ],
      arguments: [{ name: 'text', type: 'string' }],
      run: enclose,
    },
  ],
});

async function extract(call: Call): Promise<void> {
  const { run } = call;
  const loop = currentLoop(run);
  if (!loop) throw call.error("Command 'extracttext' was used outside of 'foreverypart'");
  const { base, part } = loop;
  const isText = part.contentType.type === 'text' && part.parts.length === 0;
  // RFC 5703 §7: what is no text gives the empty string.
  let text = isText ? await run.wait(decodeBodyText(base.rope, part, run.setting('maxBodyBytes'))) : '';
  if (part.contentType.subtype === 'html') text = htmlText(text);
  run.spend(1 + (text.length >> 10));
  const first = call.maybeNumber('first');
  if (first !== undefined) text = [...text.slice(0, first * 2)].slice(0, first).join('');
  for (const modifier of call.word.modifiers) text = modifier.apply(text, run);
  (call.data as VariableWriter)(text, run);
}

export const extracttext = defineExtension({
  name: 'extracttext',
  commands: [
    {
      name: 'extracttext',
      uses: ['modifier'],
      inside: ['foreverypart'],
      tags: [{ name: 'first', type: 'number' }],
      arguments: [{ name: 'name', type: 'string', literal: true }],
      validate(word) {
        if (!word.unit.isActive('variables'))
          word.error("Command 'extracttext' needs 'require \"variables\";' at the top of the script");
        word.data = variableWriter(word.string('name') ?? '', word, 'name');
      },
      run: extract,
    },
  ],
});
