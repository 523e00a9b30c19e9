import { Command } from 'commander';
import { CommandFailed, type Terminal } from './terminal.ts';
import { wholeNumber } from './whole-number.ts';

/** `wa-replica demo`: everything on this machine, with nothing to install or configure. */
export function demoCommand(terminal: Terminal): Command {
  return new Command('demo')
    .description('simulated upstream, embedded Postgres and the real daemon, nothing to configure')
    .option('--once', 'catch up, compare every row with the truth, and end: 0 only if all agree')
    .option('--connections <n>', 'how many WhatsApp accounts', wholeNumber(1, 100), 3)
    .option('--messages <n>', 'how many messages they hold in all', wholeNumber(1, 2_000_000), 20_000)
    .option('--seed <n>', 'the same seed makes the same world', wholeNumber(0, 4_294_967_295), 1)
    .option('--live <n>', 'changes a second once the backlog is done', wholeNumber(0, 10_000), 20)
    .action(
      async (options: { once?: true; connections: number; messages: number; seed: number; live: number }) => {
        // Loaded here: no other command needs the simulator.
        const { demo, DemoFailed } = await import('../demo/demo.ts');
        const agreed = await demo(
          { ...options, once: options.once === true },
          terminal.stdout,
          terminal.signal,
        ).catch((error: unknown) => {
          throw error instanceof DemoFailed ? new CommandFailed(error.message) : error;
        });
        if (!agreed) throw new CommandFailed('the replica does not agree with the upstream');
      },
    );
}
