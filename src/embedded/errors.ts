/** A failure of the embedded Postgres, with what an operator can do about it. */
export class EmbeddedPostgresError extends Error {
  override name = 'EmbeddedPostgresError';

  /** @param remedy one sentence, without secrets. */
  constructor(message: string, remedy: string) {
    // A message that ends with a program's output ends its own last line.
    super(`${message}${message.endsWith('\n') ? '' : ' '}${remedy}`);
  }
}

/** The `code` that an error of the system or of Postgres carries (`ENOENT`, `42P04` …), or undefined for anything else. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
