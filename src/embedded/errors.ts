/** A failure of the embedded Postgres, with what an operator can do about it. */
export class EmbeddedPostgresError extends Error {
  /** The remedy: one sentence, without secrets. */
  readonly hint: string;

  constructor(message: string, hint: string, options?: ErrorOptions) {
    // A message that ends with a program's output ends its own last line.
    super(`${message}${message.endsWith('\n') ? '' : ' '}${hint}`, options);
    this.name = 'EmbeddedPostgresError';
    this.hint = hint;
  }
}

/** The `code` of a system error (`ENOENT`, `EACCES` …), or undefined for anything else. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
