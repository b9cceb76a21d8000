// One conversation with a milter about one message, all stages in order: negotiation, client, HELO, sender, recipients,
// header, body, end. The milter is told only what it did not decline and is waited for only where it answers.
import { isIP, isIPv6 } from 'node:net';
import {
  type HeaderField,
  type Host,
  type InMail,
  type Message,
  type Recipient,
  ropeChunks,
  sliceRope,
} from '../../core/plugin/index.ts';
import { ChangeCollector, type Changes } from './changes.ts';
import type { MilterLink } from './link.ts';
import { createMacros, type MacrosFor, macroStages, type Stage } from './macros.ts';
import { allSteps, chunkBytes, type Packet, readStrings, readUint32, steps, strings, uint32 } from './packets.ts';
import { parseReply, postpone, type Refusal, refuse } from './reply.ts';

export interface MilterSettings {
  /** Bits of `changes` that the milter may use. */
  readonly allowed: number;
  readonly ownReplies: boolean;
  readonly maxBodyBytes: number;
}

export type MilterOutcome =
  /** `settled`: the milter said that it wants no more of this message. */
  | ({ readonly kind: 'pass'; readonly settled: boolean } & Changes)
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'discard' };

/** How a milter ended the conversation before its end. */
type Ending = Exclude<MilterOutcome, { kind: 'pass' }> | { readonly kind: 'accepted' };

interface Terms {
  readonly protocol: number;
  readonly macros: MacrosFor;
}

const version = 6;
const stageNames: Readonly<Record<string, string>> = { C: 'connect', H: 'HELO', M: 'MAIL', R: 'RCPT', T: 'DATA', L: 'header', N: 'end of header', B: 'body', E: 'end of message' }; // biome-ignore format: a table

export class Conversation {
  readonly #link: MilterLink;
  readonly #at: InMail;
  readonly #host: Host;
  readonly #settings: MilterSettings;
  #terms: Terms = { protocol: 0, macros: () => [] };

  constructor(link: MilterLink, at: InMail, host: Host, settings: MilterSettings) {
    this.#link = link;
    this.#at = at;
    this.#host = host;
    this.#settings = settings;
  }

  /** Client, HELO and sender. */
  async #open(id: string): Promise<Ending | undefined> {
    await this.#negotiate(id);
    const { session, envelope, helo } = this.#at;
    return (
      (await this.#step('C', steps.noConnect, steps.silentConnect, clientData(session.remote))) ??
      (await this.#step('H', steps.noHelo, steps.silentHelo, strings(helo))) ??
      (await this.#step('M', steps.noMail, steps.silentMail, strings(`<${envelope.sender?.text ?? ''}>`, ...mailArguments(this.#at))))
    ); // biome-ignore format: one line each
  }

  #recipient(to: Recipient): Promise<Ending | undefined> {
    return this.#step('R', steps.noRcpt, steps.silentRcpt, strings(`<${to.address.text}>`), to);
  }

  /** Only as far as one recipient: what the milter says to it, before there is a message. */
  async askRecipient(to: Recipient): Promise<MilterOutcome> {
    const ending = (await this.#open('')) ?? (await this.#recipient(to));
    if (ending && ending.kind !== 'accepted') return ending;
    return { kind: 'pass', settled: ending !== undefined, edits: [] };
  }

  async askMessage(id: string, message: Message): Promise<MilterOutcome> {
    const passed: MilterOutcome = { kind: 'pass', settled: true, edits: [] };
    let ending = await this.#open(id);
    for (const to of this.#at.envelope.recipients) ending ??= await this.#recipient(to);
    ending ??= await this.#step('T', steps.noData, steps.silentData, Buffer.alloc(0));
    ending ??= await this.#header(message);
    ending ??= await this.#body(message);
    if (ending) return ending.kind === 'accepted' ? passed : ending;
    return this.#end(message);
  }

  async #negotiate(id: string): Promise<void> {
    const { allowed } = this.#settings;
    await this.#link.send('O', uint32(version, allowed, allSteps));
    const { code, data } = await this.#link.receive();
    if (code !== 'O') throw new Error(`Milter answered '${printable(code)}' to the negotiation`);
    const [agreed, actions, protocol] = [readUint32(data), readUint32(data, 4), readUint32(data, 8)];
    if (agreed < 2 || agreed > version) throw new Error(`Milter speaks version ${agreed} of the protocol`);
    if ((actions & ~allowed) !== 0)
      throw new Error(`Milter wants changes that are not allowed (${actions.toString(16)})`);
    if ((protocol & ~allSteps) !== 0) throw new Error(`Milter wants unknown steps (${protocol.toString(16)})`);
    const wanted = readMacroLists(data.subarray(12));
    this.#terms = { protocol, macros: createMacros(this.#at, this.#host, id, wanted) };
  }

  #has(bit: number): boolean {
    return (this.#terms.protocol & bit) !== 0;
  }

  async #macros(stage: Stage, to?: Recipient): Promise<void> {
    const values = this.#terms.macros(stage, to);
    if (values.length > 0) await this.#link.send('D', Buffer.from(stage, 'latin1'), strings(...values));
  }

  async #step(
    stage: Stage,
    declined: number,
    silent: number,
    data: Buffer,
    to?: Recipient,
  ): Promise<Ending | undefined> {
    if (this.#has(declined)) return undefined;
    await this.#macros(stage, to);
    await this.#link.send(stage, data);
    return this.#has(silent) ? undefined : this.#answer(stage);
  }

  /** Undefined = go on. */
  async #answer(stage: string): Promise<Ending | undefined> {
    for (;;) {
      const packet = await this.#link.receive();
      if (packet.code === 'p') continue;
      if (packet.code === 'c' || (packet.code === 's' && stage !== 'B')) return undefined;
      return this.#ending(packet, stage);
    }
  }

  #ending({ code, data }: Packet, stage: string): Ending {
    const where = stageNames[stage] ?? stage;
    switch (code) {
      case 'a':
        return { kind: 'accepted' };
      case 'd':
        return { kind: 'discard' };
      case 'r':
        return { kind: 'refused', refusal: refuse(`Milter refuses at ${where}`) };
      case 't':
      case 'f':
      case '4':
        return { kind: 'refused', refusal: postpone(`Milter says later at ${where}`) };
      case 'y':
        return {
          kind: 'refused',
          refusal: parseReply(readStrings(data)[0] ?? '', this.#settings.ownReplies, where),
        };
      default:
        throw new Error(`Milter answered '${printable(code)}' at ${where}`);
    }
  }

  async #header(message: Message): Promise<Ending | undefined> {
    if (!this.#has(steps.noHeaders)) {
      const hidden = hiddenFields(message, this.#host);
      const fields = [...message.headers].slice(hidden).filter(({ name }) => name !== '');
      for (const field of fields) {
        await this.#link.send('L', strings(field.name, fieldText(field, this.#has(steps.leadingSpace))));
        const ending = this.#has(steps.silentHeaders) ? undefined : await this.#answer('L');
        if (ending) return ending;
      }
    }
    return this.#step('N', steps.noEndOfHeader, steps.silentEndOfHeader, Buffer.alloc(0));
  }

  async #body(message: Message): Promise<Ending | undefined> {
    if (this.#has(steps.noBody)) return undefined;
    for await (const piece of ropeChunks(sliceRope(message.rope, message.bodyStart)))
      for (let at = 0; at < piece.length; at += chunkBytes) {
        await this.#link.send('B', piece.subarray(at, at + chunkBytes));
        if (this.#has(steps.silentBody)) continue;
        const packet = await this.#afterProgress();
        if (packet.code === 's') return undefined;
        if (packet.code !== 'c') return this.#ending(packet, 'B');
      }
    return undefined;
  }

  async #afterProgress(): Promise<Packet> {
    for (;;) {
      const packet = await this.#link.receive();
      if (packet.code !== 'p') return packet;
    }
  }

  async #end(message: Message): Promise<MilterOutcome> {
    const hidden = hiddenFields(message, this.#host);
    const collected = new ChangeCollector({
      leadingSpace: this.#has(steps.leadingSpace),
      maxBodyBytes: this.#settings.maxBodyBytes,
      hidden: name => (name.toLowerCase() === 'received' ? hidden : 0),
    });
    await this.#macros('E');
    await this.#link.send('E');
    for (;;) {
      const packet = await this.#afterProgress();
      if (collected.take(packet)) continue;
      if (packet.code === 'c') return { kind: 'pass', settled: false, ...collected.result() };
      const ending = this.#ending(packet, 'E');
      return ending.kind === 'accepted' ? { kind: 'pass', settled: true, ...collected.result() } : ending;
    }
  }
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

/** Name, family, port, address. */
function clientData(remote: { readonly address: string; readonly port: number; readonly name?: string }): Buffer {
  const family = isIP(remote.address) === 0 ? 'U' : isIPv6(remote.address) ? '6' : '4';
  const name = strings(remote.name ?? `[${remote.address}]`);
  if (family === 'U') return Buffer.concat([name, Buffer.from('U')]);
  const port = Buffer.alloc(2);
  port.writeUInt16BE(remote.port & 0xffff);
  return Buffer.concat([name, Buffer.from(family), port, strings(remote.address)]);
}

function mailArguments({ envelope }: InMail): readonly string[] {
  return [
    ...(envelope.declaredSize === undefined ? [] : [`SIZE=${envelope.declaredSize}`]),
    ...(envelope.body === undefined ? [] : [`BODY=${envelope.body}`]),
    ...(envelope.smtputf8 ? ['SMTPUTF8'] : []),
  ];
}

/** Our own trace field on top is not shown to milters, as with sendmail and Postfix: their indices count without it. */
function hiddenFields({ headers }: Message, host: Host): number {
  const [first] = headers;
  return first?.name.toLowerCase() === 'received' && first.value.includes(`by ${host.hostname} `) ? 1 : 0;
}

/** As it stands behind the colon, line ends as LF, the last one left out. */
function fieldText(field: HeaderField, leadingSpace: boolean): Buffer {
  const raw = field.raw.subarray(field.raw.indexOf(0x3a) + 1);
  const text = raw.toString('latin1').replace(/\r\n/g, '\n').replace(/\n$/, '');
  return Buffer.from(leadingSpace ? text : text.replace(/^[ \t]/, ''), 'latin1');
}

/** Stage and names of the macros that the milter wants there (SMFIR_SETSYMLIST within the negotiation). */
function readMacroLists(data: Buffer): ReadonlyMap<Stage, readonly string[]> {
  const lists = new Map<Stage, readonly string[]>();
  for (let at = 0; at < data.length; ) {
    const stage = macroStages[readUint32(data, at)];
    const end = data.indexOf(0, at + 4);
    if (end < 0) throw new Error('Milter sent a list of macros without an end');
    const names = data.toString('latin1', at + 4, end).split(/[ ,]+/);
    if (stage)
      lists.set(
        stage,
        names.filter(name => name !== ''),
      );
    at = end + 1;
  }
  return lists;
}
