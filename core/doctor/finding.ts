// What `postern doctor` found. Whatever is not in order says what to do about it.
export interface Finding {
  /** `config`, `ports`, `certificate`, `dns`, … */
  readonly area: string;
  /** What was looked at. */
  readonly subject: string;
  readonly state: 'ok' | 'warn' | 'fail' | 'skip';
  readonly detail: string;
  /** Present unless it is in order. */
  readonly fix?: string;
}

/** Findings of one area. */
export function findings(area: string) {
  return {
    ok: (subject: string, detail: string): Finding => ({ area, subject, state: 'ok', detail }),
    warn: (subject: string, detail: string, fix: string): Finding => ({ area, subject, state: 'warn', detail, fix }),
    fail: (subject: string, detail: string, fix: string): Finding => ({ area, subject, state: 'fail', detail, fix }),
    skip: (subject: string, detail: string, fix: string): Finding => ({ area, subject, state: 'skip', detail, fix }),
  };
}
