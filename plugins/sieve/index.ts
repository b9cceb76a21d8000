// Users' rules at delivery (Sieve, RFC 5228). The engine and its way to mailboxes are the host's; this entry says when it
// runs and within what limits. What earlier filters found out reaches the rules by the fields that they wrote, for the
// `deliver` hook may run long after the session; fields from outside that claim the same are removed first.
import { access, constants, readdir } from 'node:fs/promises';
import path from 'node:path';
import {
  byteSize,
  type CheckHost,
  definePlugin,
  duration,
  type Edit,
  type Host,
  pass,
  type RuleOptions,
  type WithMessage,
  z,
} from '../../core/plugin/index.ts';
import { virusFinding } from '../clamav/results.ts';
import { spamScore } from '../spamassassin/results.ts';

const scriptFiles = (doc: string) =>
  z
    .array(
      z.union([
        z.string().min(1),
        z.strictObject({
          file: z.string().min(1).describe('Script file, relative to the configuration file.'),
          domain: z.string().min(1).describe('Only for users of this domain.'),
        }),
      ]),
    )
    .default([])
    .describe(doc);

const fieldName = (preset: string, doc: string) =>
  z
    .string()
    .regex(/^[\x21-\x39\x3b-\x7e]{1,60}$/, 'Expected the name of a header field')
    .default(preset)
    .describe(doc);

const cause = z.enum(['APPEND', 'COPY', 'FLAG']);
const imapMailbox = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .describe('Mailbox where messages come or change: a name, a special use such as `\\Junk`, or `*` for all.'),
    from: z.string().min(1).optional().describe('Only what is copied or moved from this mailbox; as `name`.'),
    causes: z
      .array(cause)
      .min(1)
      .default(['APPEND', 'COPY'])
      .describe('Commands that start the scripts: `APPEND`, `COPY` (and MOVE), `FLAG` (a flag was changed).'),
    before: z.string().min(1).optional().describe('Script that runs before the user’s.'),
    after: z.string().min(1).optional().describe('Script that runs after the user’s, where the implicit keep stands.'),
  })
  .refine(({ before, after }) => before !== undefined || after !== undefined, 'Name a script: `before` or `after`');

const options = z.strictObject({
  before: scriptFiles(
    'Scripts that run before the user’s own, in this order; paths relative to the configuration file.',
  ),
  after: scriptFiles('Scripts that run after the user’s own, where the implicit keep still stands.'),
  globalFolder: z
    .string()
    .min(1)
    .optional()
    .describe('Folder of scripts `NAME.sieve` that users may `include :global`.'),
  createMailboxes: z
    .boolean()
    .default(false)
    .describe(
      'Make a missing mailbox for `fileinto` without `:create` too; otherwise the message is kept in the inbox.',
    ),
  maxActions: z.number().int().positive().default(32).describe('Most actions of all scripts on one message.'),
  maxRedirects: z.number().int().nonnegative().default(4).describe('Most redirects of one message.'),
  maxSteps: z
    .number()
    .int()
    .positive()
    .default(1_000_000)
    .describe('Most steps (commands, tests, comparisons) of one script run.'),
  redirectSender: z
    .enum(['sender', 'recipient', 'original-recipient', 'user'])
    .default('sender')
    .describe(
      'Envelope sender of redirected mail. `sender` keeps the original, which fails SPF at the target; the others make this gateway responsible and bounces go to the user.',
    ),
  vacationMin: duration().prefault('1d').describe('A sender hears the same vacation text at most once in this time.'),
  editMaxField: byteSize().prefault('2KiB').describe('Largest header field that `addheader` may add.'),
  spamField: fieldName('X-Spam-Status', 'Field with `score=` and `required=` that `spamtest` reads.'),
  nextHop: z
    .strictObject({
      mailboxField: fieldName('X-Sieve-Mailbox', 'Field that names the mailbox which `fileinto` chose.'),
      flagsField: fieldName('X-Sieve-Flags', 'Field that lists the IMAP flags which the rules set.'),
      junkFields: z
        .record(z.string().regex(/^[\x21-\x39\x3b-\x7e]{1,60}$/), z.string().regex(/^[\x20-\x7e]{0,200}$/))
        .default({ 'X-Spam-Flag': 'YES' })
        .describe('Fields, name and value, that mark mail which the rules file as junk.'),
      junkMailboxes: z
        .array(z.string().min(1))
        .default(['Junk', 'Spam', 'Junk Email'])
        .describe('Mailbox names that mean junk; `:specialuse "\\Junk"` and flag `$Junk` always do.'),
      subaddress: z
        .boolean()
        .default(false)
        .describe('File by address as well: `bob+Lists@…`, for next hops that file by subaddress.'),
    })
    .prefault({})
    .describe('How rules of recipients in `relay` domains are told to the next hop.'),
  virusField: fieldName('X-Virus-Status', 'Field that `virustest` reads: `Clean` or `Infected`.'),
  lists: z
    .record(z.string().min(1), z.string().min(1))
    .default({})
    .describe(
      'Lists for `:list` (RFC 6134), name and file, one entry a line; `%u` in a path is the account, `%d` its domain, `%n` its local part.',
    ),
  programs: z
    .strictObject({
      folder: z.string().min(1).describe('Folder of the programs; nothing outside of it is run.'),
      timeout: duration().prefault('10s').describe('A program that takes longer is ended.'),
    })
    .optional()
    .describe('Lets scripts of the gateway run programs: `vnd.dovecot.pipe`, `filter`, `execute`. Absent: none.'),
  imap: z
    .strictObject({
      filter: z
        .boolean()
        .default(true)
        .describe('Let IMAP clients apply scripts to mail that is there (`FILTER=SIEVE`).'),
      userScripts: z
        .boolean()
        .default(true)
        .describe('Let users attach scripts to mailboxes (RFC 6785), by metadata `/shared/imapsieve/script`.'),
      expunge: z
        .boolean()
        .default(false)
        .describe('Remove at once what a script over stored mail does not keep; otherwise it is marked `\\Deleted`.'),
      mailboxes: z.array(imapMailbox).default([]).describe('Scripts of the gateway that IMAP commands start.'),
    })
    .prefault({})
    .describe('Rules over mail that is there already.'),
});
type Options = z.output<typeof options>;

const filesOf = (list: Options['before'], host: Pick<Host, 'resolvePath'>): RuleOptions['before'] =>
  list.map(entry =>
    typeof entry === 'string'
      ? { file: host.resolvePath(entry) }
      : { file: host.resolvePath(entry.file), domain: entry.domain.toLowerCase() },
  );

function imapOf({ imap }: Options, host: Pick<Host, 'resolvePath'>): RuleOptions['imap'] {
  const resolved = <K extends string>(key: K, file: string | undefined) =>
    file === undefined ? {} : ({ [key]: host.resolvePath(file) } as { readonly [_ in K]: string });
  return {
    ...imap,
    mailboxes: imap.mailboxes.map(({ name, from, causes, before, after }) => ({
      name,
      causes,
      ...(from === undefined ? {} : { from }),
      ...resolved('before', before),
      ...resolved('after', after),
    })),
  };
}

/** What users may `include :global`. */
async function sharedScripts(
  { globalFolder }: Options,
  host: Pick<Host, 'resolvePath'>,
): Promise<{ readonly files: readonly string[]; readonly errors: readonly string[] }> {
  if (globalFolder === undefined) return { files: [], errors: [] };
  const folder = host.resolvePath(globalFolder);
  try {
    const names = (await readdir(folder)).filter(name => name.endsWith('.sieve'));
    return { files: names.map(name => path.join(folder, name)), errors: [] };
  } catch (error) {
    return { files: [], errors: [`Cannot read '${folder}': ${(error as Error).message}`] };
  }
}

async function checkReadable(file: string): Promise<readonly string[]> {
  try {
    await access(file, constants.R_OK);
    return [];
  } catch (error) {
    return [`Cannot read '${file}': ${(error as Error).message}`];
  }
}

/** Fields that only our own filters, or those of a relay network, may have written. */
function forgedFields(at: WithMessage, { spamField, virusField, nextHop }: Options): readonly Edit[] {
  const remove = (name: string): readonly Edit[] =>
    at.message.headers.get(name) === undefined ? [] : [{ kind: 'remove-header', name }];
  return [
    ...(at.get(spamScore) === undefined ? remove(spamField) : []),
    ...(at.get(virusFinding) === undefined ? remove(virusField) : []),
    ...remove(nextHop.mailboxField),
    ...remove(nextHop.flagsField),
  ];
}

export const sieve = definePlugin({
  name: 'sieve',
  doc: 'Runs users’ own rules (Sieve) and those of the gateway when mail is delivered.',
  options,
  async check(settings, host: CheckHost) {
    const programs = settings.programs !== undefined;
    const files = [...filesOf(settings.before, host), ...filesOf(settings.after, host)];
    const imapFiles = imapOf(settings, host).mailboxes.flatMap(({ before, after }) =>
      [before ?? [], after ?? []].flat(),
    );
    const shared = await sharedScripts(settings, host);
    const found = await Promise.all([
      ...files.map(({ file }) => host.checkRules(file, { programs })),
      ...[...imapFiles, ...shared.files].map(file => host.checkRules(file, { programs, imap: true })),
      ...[settings.programs?.folder ?? [], Object.values(settings.lists).filter(file => !file.includes('%'))]
        .flat()
        .map(file => checkReadable(host.resolvePath(file))),
    ]);
    return [...shared.errors, ...found.flat()];
  },
  async setup(settings, host) {
    const rules = await host.rules.open({
      before: filesOf(settings.before, host),
      after: filesOf(settings.after, host),
      ...(settings.globalFolder === undefined ? {} : { globalFolder: host.resolvePath(settings.globalFolder) }),
      createMailboxes: settings.createMailboxes,
      maxActions: settings.maxActions,
      maxRedirects: settings.maxRedirects,
      maxSteps: settings.maxSteps,
      redirectSender: settings.redirectSender,
      vacationMinSeconds: Math.round(settings.vacationMin / 1000),
      nextHop: settings.nextHop,
      spamField: settings.spamField,
      virusField: settings.virusField,
      editMaxFieldBytes: settings.editMaxField,
      lists: Object.fromEntries(Object.entries(settings.lists).map(([name, file]) => [name, host.resolvePath(file)])),
      ...(settings.programs === undefined
        ? {}
        : { programs: { folder: host.resolvePath(settings.programs.folder), timeoutMs: settings.programs.timeout } }),
      imap: imapOf(settings, host),
    });
    return {
      message(at) {
        const edits = host.isRelayClient(at.session.remote.address) ? [] : forgedFields(at, settings);
        return edits.length === 0 ? pass : { ...pass, edits };
      },
      deliver: (at, to) => rules.deliver(at, to),
    };
  },
});
