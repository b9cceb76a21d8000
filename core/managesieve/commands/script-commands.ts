import type { Diagnostic } from '../../sieve/diagnostic.ts';
import { command, type SessionView } from '../command.ts';
import { stringOut } from '../wire.ts';

/** RFC 5804 §2.6: messages with their line numbers, separated by CRLF. */
export const describeDiagnostics = (diagnostics: readonly Diagnostic[]): string =>
  diagnostics
    .map(({ line, column, severity, message }) => `line ${line}:${column}: ${severity}: ${message}`)
    .join('\r\n');

function okWithWarnings(at: SessionView, warnings: readonly Diagnostic[]): void {
  if (warnings.length === 0) at.ok('Script is valid');
  else at.ok(describeDiagnostics(warnings), 'WARNINGS');
}

/** RFC 5804 §2.5 */
export const havespace = command({
  name: 'HAVESPACE',
  state: 'authenticated',
  args: ['text', 'number'],
  async run(at, name: string, size: number) {
    await at.service.scripts.haveSpace(at.user, name, size);
    at.ok();
  },
});

/** RFC 5804 §2.6 */
export const putscript = command({
  name: 'PUTSCRIPT',
  state: 'authenticated',
  args: ['text', 'bytes'],
  async run(at, name: string, content: Buffer) {
    if (content.length === 0) return at.no('The script is empty');
    const warnings = await at.service.scripts.put(at.user, name, content);
    at.log.info({ event: 'managesieve-put', user: at.user, script: name, size: content.length }, 'script stored');
    okWithWarnings(at, warnings);
  },
});

/** RFC 5804 §2.12: stores nothing and knows no quota. */
export const checkscript = command({
  name: 'CHECKSCRIPT',
  state: 'authenticated',
  args: ['bytes'],
  run(at, content: Buffer) {
    if (content.length === 0) return at.no('The script is empty');
    const found = at.service.scripts.check(content);
    if (found.some(({ severity }) => severity === 'error')) return at.no(describeDiagnostics(found));
    okWithWarnings(at, found);
  },
});

/** RFC 5804 §2.7 */
export const listscripts = command({
  name: 'LISTSCRIPTS',
  state: 'authenticated',
  args: [],
  async run(at) {
    for (const { name, active } of await at.service.scripts.list(at.user)) {
      at.lines.write(stringOut(name));
      at.lines.write(active ? ' ACTIVE\r\n' : '\r\n');
    }
    at.ok();
  },
});

/** RFC 5804 §2.8 */
export const setactive = command({
  name: 'SETACTIVE',
  state: 'authenticated',
  args: ['text'],
  async run(at, name: string) {
    await at.service.scripts.activate(at.user, name === '' ? undefined : name);
    at.log.info({ event: 'managesieve-activate', user: at.user, script: name }, 'script activated');
    at.ok();
  },
});

/** RFC 5804 §2.9 */
export const getscript = command({
  name: 'GETSCRIPT',
  state: 'authenticated',
  args: ['text'],
  async run(at, name: string) {
    const content = await at.service.scripts.get(at.user, name);
    at.lines.write(`{${content.length}}\r\n`);
    at.lines.write(content);
    at.lines.write('\r\n');
    at.ok();
  },
});

/** RFC 5804 §2.10 */
export const deletescript = command({
  name: 'DELETESCRIPT',
  state: 'authenticated',
  args: ['text'],
  async run(at, name: string) {
    await at.service.scripts.delete(at.user, name);
    at.log.info({ event: 'managesieve-delete', user: at.user, script: name }, 'script deleted');
    at.ok();
  },
});

/** RFC 5804 §2.11 */
export const renamescript = command({
  name: 'RENAMESCRIPT',
  state: 'authenticated',
  args: ['text', 'text'],
  async run(at, from: string, to: string) {
    await at.service.scripts.rename(at.user, from, to);
    at.ok();
  },
});
