/**
 * Several commands in one process, one after the other, for {@link runSeveral}: what each said comes last and as JSON,
 * behind whatever Node and libraries have printed by themselves.
 */
import { runCommand } from './command.ts';

const env = process.env as Record<string, string>;
const ended: unknown[] = [];
for (const args of JSON.parse(process.argv[2]!) as string[][]) ended.push(await runCommand(args, env));
process.stdout.write(`\n${JSON.stringify(ended)}\n`);
