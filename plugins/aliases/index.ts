// Aliases from the files that Postfix administrators have. Order for an address: its exact entry, then (in local domains)
// its bare name in virtual(5), then in aliases(5), each also without `+detail`; then its mailbox; then the catch-all of its
// domain. At RCPT an alias is accepted when at least one of its targets can receive mail, so that a list of nobody
// is refused in the session; an address without an alias goes on to `recipients`. The message is expanded when it is
// complete. Targets of ours without a mailbox are left out then (and recorded): they must not become bounces.
import {
  type Address,
  accept,
  defer,
  definePlugin,
  duration,
  type Edit,
  type Gate,
  type Host,
  type InMail,
  type MessageAnswer,
  parseMailbox,
  pass,
  type Reply,
  reject,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { type AliasTable, readTable, type TableSources } from './alias-table.ts';

const file = () => z.string().min(1).meta({ kind: 'path' });
const options = z.strictObject({
  aliases: z.array(file()).default([]).describe('Files in aliases(5) syntax, for all `local` domains alike.'),
  virtual: z.array(file()).default([]).describe('Files in virtual(5) syntax, by address, name or `@domain`.'),
  postmaster: z
    .string()
    .optional()
    .describe(
      'Where mail for `postmaster` of any domain of ours goes that has neither alias nor mailbox of that name.',
    ),
  origin: z
    .string()
    .toLowerCase()
    .optional()
    .describe('Domain of bare targets of virtual domains; default: the domain of the alias itself.'),
  delimiter: z.string().max(1).default('+').describe('Separates user and detail; empty = no details.'),
  programs: z
    .enum(['error', 'ignore'])
    .default('error')
    .describe(
      'What to do with targets `|program` and `/file`, which are never run or written: refuse the file, or leave them out.',
    ),
  maxTargets: z.number().int().positive().default(1000).describe('Most targets of one alias, nested ones included.'),
  checkEvery: duration()
    .prefault('5s')
    .describe('How often, at most, to look whether a file changed. A changed file that is broken is not taken over.'),
});
type Options = z.infer<typeof options>;

const unknownUser: Reply<5> = { code: 550, enhanced: '5.1.1', text: 'No such user here' };
const unavailable: Reply<4> = {
  code: 451,
  enhanced: '4.3.0',
  text: 'Recipient cannot be verified now, please try again later',
};

/** The table as of the files; a reload that fails keeps the one before. */
async function watchTable(settings: Options, sources: TableSources, host: Host) {
  let table = await readTable(sources);
  let checkedAt = host.clock.monotonic();
  let checking: Promise<void> | undefined;
  let problem: string | undefined;

  async function check(): Promise<void> {
    if (!(await table.isStale())) return;
    try {
      table = await readTable(sources);
      if (problem !== undefined) host.log.info('Alias files can be read again');
      problem = undefined;
    } catch (err) {
      const message = err instanceof Error ? err.message : String(err);
      if (message !== problem) host.log.warn({ err }, 'Changed alias files are not taken over');
      problem = message;
    }
  }

  return {
    problem: () => problem,
    size: () => table.size,
    /** At once, unless it is time to look at the files. */
    current(): AliasTable | Promise<AliasTable> {
      if (!checking && host.clock.monotonic() - checkedAt < settings.checkEvery) return table;
      checking ??= check().finally(() => {
        checkedAt = host.clock.monotonic();
        checking = undefined;
      });
      return checking.then(() => table);
    },
  };
}

type Resolved =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'targets';
      readonly targets: readonly Address[];
      readonly unknown: readonly Address[];
      readonly key: string;
    }
  | { readonly kind: 'unavailable'; readonly why: string };

/** A backend that could not answer: ends the resolving of an address (invariant I4). */
class Unavailable extends Error {}

function createResolver(host: Host, postmaster: Address | undefined) {
  const isOurs = (domain: string): boolean => domain === '' || host.mailboxes.domainKind(domain) !== 'foreign';

  async function hasMailbox(address: Address): Promise<boolean> {
    const kind = address.domain === '' ? 'local' : host.mailboxes.domainKind(address.domain);
    // Whoever lives elsewhere is not for us to know.
    if (kind === 'foreign' || kind === 'relay') return true;
    const found = await host.mailboxes.exists(address.text);
    if (found.kind === 'unavailable') throw new Unavailable(found.why);
    return found.kind === 'found';
  }

  async function split(table: AliasTable, targets: readonly Address[], mayCatch: boolean) {
    const good: Address[] = [];
    const unknown: Address[] = [];
    for (const target of targets) {
      if (await hasMailbox(target)) good.push(target);
      else {
        const caught = mayCatch ? table.catchAll(target) : undefined;
        const inner = caught
          ? await split(table, table.expand(caught, target), false)
          : { good: [], unknown: [target] };
        good.push(...inner.good);
        unknown.push(...inner.unknown);
      }
    }
    return { good, unknown };
  }

  async function resolve(table: AliasTable, address: Address): Promise<Resolved> {
    if (!isOurs(address.domain)) return { kind: 'none' };
    try {
      const found = table.find(address);
      if (found) {
        const { good, unknown } = await split(table, table.expand(found, address), true);
        return { kind: 'targets', targets: good, unknown, key: found.alias.key };
      }
      const isPostmaster = address.local.toLowerCase() === 'postmaster';
      const caught = table.catchAll(address);
      if ((!caught && !(isPostmaster && postmaster)) || (await hasMailbox(address))) return { kind: 'none' };
      if (isPostmaster && postmaster) {
        const inner = table.find(postmaster);
        const targets = inner ? table.expand(inner, postmaster) : [postmaster];
        return { kind: 'targets', targets, unknown: [], key: 'postmaster' };
      }
      if (!caught) return { kind: 'none' };
      const { good, unknown } = await split(table, table.expand(caught, address), false);
      return { kind: 'targets', targets: good, unknown, key: caught.alias.key };
    } catch (error) {
      if (error instanceof Unavailable) return { kind: 'unavailable', why: error.message };
      throw error;
    }
  }
  return resolve;
}

type Resolve = ReturnType<typeof createResolver>;

async function atRcpt(at: InMail, table: AliasTable, resolve: Resolve, address: Address): Promise<Gate> {
  const found = await resolve(table, address);
  if (found.kind === 'none') return pass;
  if (found.kind === 'unavailable') return defer(unavailable, `Directory: ${found.why}`);
  at.evidence({ alias: found.key, targets: found.targets.length, unknown: found.unknown.map(target => target.text) });
  return found.targets.length > 0 ? accept : reject(unknownUser, `Alias '${found.key}' leads to nobody`);
}

/** Removals before additions: an alias may expand to another recipient of the same message. */
async function atMessage(at: WithMessage, table: AliasTable, resolve: Resolve): Promise<MessageAnswer> {
  const removed: Edit[] = [];
  const added: Edit[] = [];
  const unknown: string[] = [];
  const owners = new Set<string | undefined>();
  for (const { address } of at.envelope.recipients) {
    const found = await resolve(table, address);
    if (found.kind === 'unavailable') return defer(unavailable, `Directory: ${found.why}`);
    const targets = found.kind === 'targets' ? found.targets : [];
    owners.add(found.kind === 'targets' ? table.owner(address)?.text : undefined);
    if (found.kind === 'targets') unknown.push(...found.unknown.map(target => target.text));
    // All targets vanished since RCPT: as if the address were no alias, so that its sender learns of it.
    if (targets.length === 0) continue;
    if (!targets.some(target => target.text.toLowerCase() === address.text.toLowerCase()))
      removed.push({ kind: 'remove-recipient', address: address.text });
    for (const target of targets) added.push({ kind: 'add-recipient', address: target.text, original: address.text });
  }
  if (unknown.length > 0) at.evidence({ unknown });
  const [owner] = owners;
  // There is one envelope sender: it can be the list's owner only where the message goes to that list alone.
  const toOwner: Edit[] =
    owners.size === 1 && owner !== undefined && at.envelope.sender ? [{ kind: 'set-sender', address: owner }] : [];
  const edits = [...removed, ...added, ...toOwner];
  return edits.length > 0 ? { ...pass, edits } : pass;
}

function parsePostmaster(text: string | undefined): Address | undefined {
  if (text === undefined) return undefined;
  const parsed = parseMailbox(text, { smtputf8: true });
  if (parsed.kind === 'error') throw new Error(`Option 'postmaster': '${text}' is no address`);
  return parsed.address;
}

export const aliases = definePlugin({
  name: 'aliases',
  doc: 'Expands aliases, lists and catch-alls from files in the syntax of Postfix aliases(5) and virtual(5).',
  options,
  async setup(settings, host) {
    const postmaster = parsePostmaster(settings.postmaster);
    if (settings.aliases.length + settings.virtual.length === 0 && !postmaster) return {};
    const watched = await watchTable(
      settings,
      {
        aliases: settings.aliases.map(host.resolvePath),
        virtual: settings.virtual.map(host.resolvePath),
        ignorePrograms: settings.programs === 'ignore',
        maxTargets: settings.maxTargets,
        origin: settings.origin,
        delimiter: settings.delimiter,
        isLocal: domain => domain === '' || host.mailboxes.domainKind(domain) === 'local',
      },
      host,
    );
    const resolve = createResolver(host, postmaster);
    return {
      rcpt: async (at, { address }) => atRcpt(at, await watched.current(), resolve, address),
      message: async at => atMessage(at, await watched.current(), resolve),
      async status() {
        const problem = watched.problem();
        return { aliases: watched.size(), ...(problem === undefined ? {} : { problem }) };
      },
    };
  },
});
