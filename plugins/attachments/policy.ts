// Which action an attachment calls for: rules in order, the first that fits counts.
import { type Glob, glob, type Host, type WithMessage } from '../../core/plugin/index.ts';
import type { Item } from './kinds.ts';
import { plainName } from './names.ts';
import { type Action, actions, type Rule } from './options.ts';

/** An attachment's item, with the type that the message claims for it. */
export interface Judged {
  readonly item: Item;
  readonly claimed?: string;
}

const anyFits = (patterns: readonly Glob[] | undefined, texts: readonly string[]): boolean =>
  patterns === undefined || texts.some(text => patterns.some(fits => fits(text)));

function compile(rule: Rule) {
  const { is, inside, origin, action } = rule;
  const names = rule.name?.map(glob);
  const types = rule.type?.map(glob);
  const senders = rule.sender?.map(glob);
  const recipients = rule.recipient?.map(glob);
  return {
    action,
    concerns: (at: WithMessage, isInside: boolean): boolean =>
      (origin === 'any' || isInside === (origin === 'inside')) &&
      anyFits(senders, [at.envelope.sender?.text ?? '']) &&
      anyFits(
        recipients,
        at.envelope.recipients.map(({ address }) => address.text),
      ),
    fits: ({ item, claimed }: Judged): boolean =>
      (is === undefined || is.some(kind => item.kinds.includes(kind))) &&
      (inside === undefined || item.depth > 0 === inside) &&
      anyFits(names, [...item.names, ...item.names.map(plainName)]) &&
      anyFits(types, claimed === undefined ? [item.type] : [item.type, claimed]),
  };
}

export type Judge = (judged: Judged) => Action | undefined;

/** The rules that concern this message, ready to be asked for each of its attachments. */
export function createPolicy(rules: readonly Rule[], host: Host): (at: WithMessage) => Judge {
  const compiled = rules.map(compile);
  return at => {
    const isInside = at.identity !== undefined || host.isRelayClient(at.session.remote.address);
    const mine = compiled.filter(rule => rule.concerns(at, isInside));
    return judged => mine.find(rule => rule.fits(judged))?.action;
  };
}

export const strictest = (wanted: readonly (Action | undefined)[]): Action | undefined =>
  wanted.reduce((worst, next) => {
    const isWorse = next !== undefined && (worst === undefined || actions.indexOf(next) > actions.indexOf(worst));
    return isWorse ? next : worst;
  }, undefined);
