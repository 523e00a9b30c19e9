import { createInterface } from 'node:readline/promises';
import { CommandFailed, type Terminal } from './terminal.ts';

/** Asks before something that cannot be taken back.
 * @throws CommandFailed where the answer is not yes, or where there is nobody to ask. */
export async function confirm({ stdout, signal }: Terminal, question: string): Promise<void> {
  if (!process.stdin.isTTY) throw new CommandFailed('no terminal to ask on: add --yes', 2);
  const prompt = createInterface({ input: process.stdin, output: stdout });
  let answer = '';
  try {
    answer = await prompt.question(`${question} [y/N] `, { signal });
  } catch {
    // Ctrl-C, Ctrl-D or a signal: a no.
    stdout.write('\n');
  }
  prompt.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new CommandFailed('nothing was done');
}
