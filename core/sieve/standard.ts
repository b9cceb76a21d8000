// All extensions of this engine, in the order in which their tags are looked for. Names for `require` are the standards'.
import type { ExtensionDefinition, Registry, RegistryOptions } from './contract.ts';
import { basicTests } from './ext/basic-tests.ts';
import { body } from './ext/body.ts';
import { control } from './ext/control.ts';
import { date, index } from './ext/date.ts';
import { envelopeDeliverby, envelopeDsn, redirectDeliverby, redirectDsn } from './ext/dsn.ts';
import { duplicateExtension } from './ext/duplicate.ts';
import { editheader } from './ext/editheader.ts';
import { encodedCharacter } from './ext/encoded-character.ts';
import { enotify } from './ext/enotify.ts';
import { envelope, subaddress } from './ext/envelope.ts';
import { dovecotEnvironment, environment } from './ext/environment.ts';
import { extlists } from './ext/extlists.ts';
import { ihave } from './ext/ihave.ts';
import { imap4flags } from './ext/imap4flags.ts';
import { imapsieve } from './ext/imapsieve.ts';
import { includeExtension } from './ext/include.ts';
import { fcc, mailbox, mailboxid, mboxmetadata, servermetadata, specialUse } from './ext/mailbox.ts';
import {
  asciiCasemapComparator,
  asciiNumericComparator,
  matching,
  octetComparator,
  unicodeCasemapComparator,
} from './ext/matching.ts';
import { encloseExtension, extracttext, foreverypart, mime, replace } from './ext/mime.ts';
import { redirect } from './ext/redirect.ts';
import { regex } from './ext/regex.ts';
import { ereject, reject } from './ext/reject.ts';
import { relational } from './ext/relational.ts';
import { spamtest, spamtestplus, virustest } from './ext/spamtest.ts';
import { copy, fileinto, storeActions } from './ext/store-actions.ts';
import { vacation, vacationSeconds } from './ext/vacation.ts';
import { variables } from './ext/variables.ts';
import { debug, executeExtension, filter, pipe, report } from './ext/vnd-dovecot.ts';
import { createRegistry } from './registry.ts';

const base: readonly ExtensionDefinition[] = [
  control,
  storeActions,
  redirect,
  basicTests,
  matching,
  octetComparator,
  asciiCasemapComparator,
];

export const standardExtensions: readonly ExtensionDefinition[] = [
  ...base,
  ...[
    asciiNumericComparator,
    unicodeCasemapComparator,
    encodedCharacter,
    variables,
    fileinto,
    copy,
    envelope,
    subaddress,
  ],
  ...[
    relational,
    regex,
    body,
    date,
    index,
    imap4flags,
    environment,
    editheader,
    reject,
    ereject,
    vacation,
    vacationSeconds,
  ],
  ...[
    enotify,
    ihave,
    includeExtension,
    mailbox,
    mboxmetadata,
    servermetadata,
    specialUse,
    mailboxid,
    fcc,
    duplicateExtension,
  ],
  ...[spamtest, spamtestplus, virustest, extlists, mime, foreverypart, replace, encloseExtension, extracttext],
  ...[envelopeDsn, envelopeDeliverby, redirectDsn, redirectDeliverby, imapsieve],
  ...[dovecotEnvironment, report, debug, pipe, filter, executeExtension],
];

/** The standard extensions and these; throws where two define the same. */
export function standardRegistry(more: readonly ExtensionDefinition[] = [], options: RegistryOptions = {}): Registry {
  return createRegistry([...standardExtensions, ...more], options);
}
