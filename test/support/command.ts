import { Writable } from 'node:stream';
import { createProgram } from '../../src/cli/program.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { explain } from '../../src/main.ts';

/**
 * Runs a command to its end in this process, which takes a tenth of {@link runCli}. For all tests that are not of the
 * process itself: its standard input, what Node reads when it starts, what libraries print.
 * @param signal aborted as by SIGTERM or SIGINT; never where absent.
 */
export async function runCommand(
  args: readonly string[],
  env: Record<string, string>,
  signal: AbortSignal = new AbortController().signal,
): Promise<{ status: number; stdout: string; stderr: string }> {
  const stdout = collector();
  const stderr = collector();
  const terminal: Terminal = {
    env,
    stdout: stdout.stream,
    stderr: stderr.stream,
    signal,
  };
  let status = 0;
  try {
    await createProgram(terminal).parseAsync(['node', 'wa-replica', ...args]);
  } catch (error) {
    status = explain(error, terminal);
  }
  return { status, stdout: stdout.text(), stderr: stderr.text() };
}

/** A stream that keeps whatever is written to it. */
function collector(): { stream: NodeJS.WriteStream; text(): string } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      chunks.push(chunk);
      done();
    },
  });
  return {
    stream: stream as unknown as NodeJS.WriteStream,
    text: () => Buffer.concat(chunks).toString('utf8'),
  };
}
