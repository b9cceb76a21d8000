// Files and folders that each account has one of: its Maildir, its lists.
import path from 'node:path';

/** `%d` domain, `%n` local part, `%u` both. None may lead out of the folder. */
export function userPath(template: string, folder: string, user: string): string {
  const at = user.lastIndexOf('@');
  const safe = (text: string): string =>
    text === '' || text === '.' || text === '..' ? `_${text}` : text.replace(/[/\0]/g, '_');
  const values: Readonly<Record<string, string>> = {
    '%d': safe(user.slice(at + 1)),
    '%n': safe(user.slice(0, at)),
    '%u': safe(user),
  };
  return path.resolve(
    folder,
    template.replace(/%[dnu]/g, name => values[name] ?? name),
  );
}
