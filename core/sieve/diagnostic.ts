// What the compiler and the interpreter tell the author of a script: a place and a sentence.

export interface Position {
  /** 1-based. */
  readonly line: number;
  /** 1-based, in characters. */
  readonly column: number;
}

export interface Diagnostic extends Position {
  readonly severity: 'error' | 'warning' | 'info';
  /** One sentence, capital letter, no full stop, quoting what it speaks about. */
  readonly message: string;
  /** Name of the script in which it arose, where there is more than one (include, several scripts on one result). */
  readonly script?: string;
}

/** `12:5: error: Unknown command 'fileintoo'`, one per line, as `postern sieve check` and ManageSieve show it. */
export function formatDiagnostics(diagnostics: readonly Diagnostic[]): string {
  return diagnostics
    .map(
      d =>
        `${d.script === undefined || d.script === '' ? '' : `${d.script}:`}${d.line}:${d.column}: ${d.severity}: ${d.message}`,
    )
    .join('\n');
}

/** At most 60 characters of a text that goes into a sentence, controls made visible. */
export function quote(text: string): string {
  const short = text.length > 60 ? `${text.slice(0, 57)}…` : text;
  return `'${short.replace(/[\u0000-\u001f\u007f]/g, c => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`;
}
