// The sources as the house rules see them: text without comments, and what each file imports (types too).
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from '../harness/root.ts';

export interface SourceFile {
  /** Relative to the root, with `/`. */
  readonly file: string;
  readonly text: string;
  /** Resolved: a path relative to the root, or the specifier of a package (`node:fs`, `pino`). */
  readonly imports: readonly string[];
}

/** Comments become spaces; a `//` inside a string does not begin one. */
export function withoutComments(text: string): string {
  const pattern = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  return text.replace(pattern, match => (match.startsWith('/') ? match.replace(/[^\n]/g, ' ') : match));
}

const importPattern =
  /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\b(?:import|require)\(\s*['"]([^'"]+)['"]\s*\)|\bnew URL\(\s*['"](\.{1,2}\/[^'"]+\.[tj]s)['"]/gm;

export function readSource(file: string, source: string): SourceFile {
  const text = withoutComments(source);
  const imports = [...text.matchAll(importPattern)].map(match => {
    const specifier = match[1] ?? match[2] ?? match[3] ?? match[4] ?? '';
    return specifier.startsWith('.')
      ? path.posix.join(path.posix.dirname(file), specifier).replace(/\.js$/, '.ts')
      : specifier;
  });
  return { file, text, imports };
}

/** All TypeScript sources below a folder of the root, with their original text. */
export function listSources(
  ...folders: readonly string[]
): readonly { readonly file: string; readonly source: string }[] {
  return folders.flatMap(folder =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts') && !name.endsWith('.d.ts'))
      .map(name => `${folder}/${name.split(path.sep).join('/')}`)
      .sort()
      .map(file => ({ file, source: readFileSync(path.join(root, file), 'utf8') })),
  );
}
