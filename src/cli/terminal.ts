import type { Environment } from '../config/load.ts';

/** What a command has of the process around it. */
export interface Terminal {
  readonly env: Environment;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
  /** Aborted by the first SIGTERM or SIGINT. */
  readonly signal: AbortSignal;
}

/** What a command ends with, beside its exit status; 0 done, 1 failed at run time, 2 wrong usage or configuration. */
export class CommandFailed extends Error {
  override name = 'CommandFailed';
  readonly status: 1 | 2;
  constructor(message: string, status: 1 | 2 = 1) {
    super(message);
    this.status = status;
  }
}

/** A text of the upstream's must not move the cursor of a terminal, nor turn its lines around. What joins letters and
 * emoji (U+200C, U+200D), and what tags a flag (U+E0020 to U+E007F), does neither. */
export function printable(text: string): string {
  return text.replace(/[\p{C}--[\u200C\u200D\u{E0020}-\u{E007F}]]/gv, '\uFFFD');
}

/** Whoever reads what is printed went away (`| head`): the end of what has no other. */
export class ReaderGone extends Error {}

/** Writes, and waits until it is out.
 * @throws ReaderGone */
export async function written({ stdout }: Pick<Terminal, 'stdout'>, text: string): Promise<void> {
  if (text === '') return;
  await new Promise<void>((resolve, reject) => {
    stdout.write(text, (error) => (error ? reject(new ReaderGone()) : resolve()));
  });
}
