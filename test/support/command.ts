import { PassThrough } from 'node:stream';
import { createProgram } from '../../src/cli/program.ts';
import type { Terminal } from '../../src/cli/terminal.ts';
import { explain } from '../../src/main.ts';

/** Runs a command in this process, which is far quicker than {@link runCli}; for those that hold nothing open. */
export async function runCommand(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ status: number; stdout: string; stderr: string }> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const terminal: Terminal = {
    env,
    stdout: stdout as unknown as NodeJS.WriteStream,
    stderr: stderr as unknown as NodeJS.WriteStream,
    signal: new AbortController().signal,
  };
  let status = 0;
  try {
    await createProgram(terminal).parseAsync(['node', 'wa-replica', ...args]);
  } catch (error) {
    status = explain(error, terminal);
  }
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString('utf8') ?? '';
  return { status, stdout: text(stdout), stderr: text(stderr) };
}
