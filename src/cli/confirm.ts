import { createInterface } from 'node:readline/promises';
import { CommandFailed, type Terminal } from './terminal.ts';

/** Asks before something that cannot be taken back.
 * @throws CommandFailed where the answer is not yes, or where there is nobody to ask. */
export async function confirm({ stdout, stderr, signal }: Terminal, question: string): Promise<void> {
  // What is printed may go into a file, where nobody would see that something is asked.
  const output = [stdout, stderr].find((stream) => stream.isTTY);
  if (!process.stdin.isTTY || output === undefined)
    throw new CommandFailed('no terminal to ask on: add --yes', 2);
  const prompt = createInterface({ input: process.stdin, output });
  let answer = '';
  try {
    answer = await prompt.question(`${question} [y/N] `, { signal });
  } catch {
    // Ctrl-C, Ctrl-D or a signal: a no.
    output.write('\n');
  }
  prompt.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new CommandFailed('nothing was done');
}
