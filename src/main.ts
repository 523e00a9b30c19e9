import { existsSync, readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { createProgram } from './cli/program.ts';
import { CommandFailed, type Terminal } from './cli/terminal.ts';
import { readEnvFile } from './config/env-file.ts';
import { ConfigError } from './config/load.ts';
import { EmbeddedPostgresError } from './embedded/errors.ts';
import { codeOf, ReplicaError } from './errors/errors.ts';
import { errorFields } from './ops/logger.ts';

/** argv → command → exit status. */
export async function main(): Promise<void> {
  const stopping = new AbortController();
  const stop = (signal: string) => stopping.abort(new DOMException(`${signal} received`, 'AbortError'));
  let asked = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal ends the process where it stands (R16).
      if (asked) process.exit(1);
      asked = true;
      stop(signal);
    });
  }
  // Of a terminal that closes. Its shell and the kernel may both say so, and systemd together with SIGTERM where a session
  // ends, of which either may be heard first: it is neither the first nor the second that asks.
  process.on('SIGHUP', () => stop('SIGHUP'));
  // A log that cannot be written (a full disk) ends nothing, and nobody could be told of it.
  process.stderr.on('error', () => {});
  const around = { stdout: process.stdout, stderr: process.stderr, signal: stopping.signal };
  // Node would print the text of what nobody has caught, which may quote a value (R18).
  process.on('uncaughtException', (error) => process.exit(explain(error, around)));
  let status = 0;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // A reader that went away (`| head`) is no failure of ours.
    if (error.code === 'EPIPE' || status !== 0) return;
    // Told late, where the command may have ended already.
    status = explain(new CommandFailed(`cannot write the output (${codeOf(error)})`), around);
    process.exitCode = status;
  });
  try {
    await createProgram({ ...around, env: environment() }).parseAsync(process.argv);
  } catch (error) {
    status = explain(error, around);
  }
  process.exitCode = status;
  // What a command opened it has closed, or given up; whoever has asked for the end waits for it.
  const unsaid = process.stdout.writableLength + process.stderr.writableLength;
  if (stopping.signal.aborted && unsaid === 0) process.exit();
  // A socket that is slow to close must not keep a finished command alive.
  setTimeout(() => process.exit(), 200).unref();
}

/** The environment over the `.env` file, where there is one; says what is odd in that. It is put into the process's own, where pg looks for
 * libpq's variables and undici for the proxy's.
 * @throws ConfigError where it cannot be read. */
function environment(): Terminal['env'] {
  if (!existsSync('.env')) return process.env;
  let text: string;
  try {
    text = readFileSync('.env', 'utf8');
  } catch (error) {
    throw new ConfigError([`.env in this folder is no file that can be read (${codeOf(error)})`]);
  }
  const { values, warnings } = readEnvFile(text);
  for (const warning of warnings) process.stderr.write(`wa-replica: ${warning}\n`);
  for (const [name, value] of Object.entries(values)) process.env[name] ??= value;
  return process.env;
}

/** Says on stderr what went wrong, in the words of whoever can mend it. */
export function explain(error: unknown, { stderr, signal }: Pick<Terminal, 'stderr' | 'signal'>): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof ConfigError) {
    stderr.write(`wa-replica: wrong configuration:\n${error.problems.map((one) => `  - ${one}\n`).join('')}`);
    return 2;
  }
  if (error instanceof CommandFailed) {
    stderr.write(`wa-replica: ${error.message}\n`);
    return error.status;
  }
  if (signal.aborted && (error as Error | undefined)?.name === 'AbortError') {
    stderr.write('wa-replica: interrupted\n');
    return 1;
  }
  if (error instanceof EmbeddedPostgresError) {
    stderr.write(`wa-replica: ${error.message}\n`);
    return 1;
  }
  // A fault of this program is found by its place.
  if (error instanceof ReplicaError && error.kind !== 'internal') {
    const hint = error.hint === undefined ? '' : `  ${error.hint}\n`;
    stderr.write(`wa-replica: ${error.kind}: ${error.message}\n${hint}`);
    return 1;
  }
  stderr.write(`wa-replica: internal error: ${JSON.stringify(errorFields(error))}\n`);
  return 1;
}
