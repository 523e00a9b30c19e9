import { fileURLToPath } from 'node:url';
import { Child } from './child.ts';

/** A `wa-replica` process. */
export type CliProcess = Child;

export const SOURCES = fileURLToPath(new URL('../../src/bin.ts', import.meta.url));
export const BUILT = fileURLToPath(new URL('../../dist/src/bin.js', import.meta.url));

const SEVERAL = fileURLToPath(new URL('several-commands.ts', import.meta.url));

/** Half of a start is compiling, and a suite starts the program some hundred times. */
export const CACHE = fileURLToPath(new URL('../../node_modules/.cache/wa-replica-tests', import.meta.url));

/** Starts the command line in an empty folder, with no more of the environment than what is given. */
export function startCli(
  args: readonly string[],
  env: Record<string, string>,
  bin: string = SOURCES,
): CliProcess {
  return new Child([bin, ...args], { NODE_COMPILE_CACHE: CACHE, ...env }, { stdout: true });
}

/** Runs the command line to its end. */
export async function runCli(
  args: readonly string[],
  env: Record<string, string>,
  bin?: string,
): Promise<{ status: number | string; stdout: string; stderr: string }> {
  const cli = startCli(args, env, bin);
  const status = await cli.ended;
  return { status, stdout: cli.stdout, stderr: cli.stderr };
}

/** What commands said and how they ended, where one process runs them one after the other. */
export interface Several {
  readonly ended: readonly { readonly status: number; readonly stdout: string; readonly stderr: string }[];
  /** Everything that came out of the process, theirs included. */
  readonly output: string;
}

/** Runs commands to their ends in a process of their own, of which nothing escapes unseen. */
export async function runSeveral(commands: readonly string[], env: Record<string, string>): Promise<Several> {
  const split = commands.map((command) => command.split(' '));
  const { status, stdout, stderr } = await runCli([JSON.stringify(split)], env, SEVERAL);
  if (status !== 0) throw new Error(`${commands.join(', ')}: the process ended with ${status}`);
  return { ended: JSON.parse(stdout.trimEnd().split('\n').at(-1)!), output: stdout + stderr };
}
