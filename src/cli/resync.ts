import { Command } from 'commander';
import { knownConnections } from '../store/connections.ts';
import { announceDue } from '../store/notify.ts';
import { lockState, readPosition, startEpoch } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';
import { confirm } from './confirm.ts';
import { onTables } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';

/** `wa-replica resync`: everything again from cursor 0, in a new epoch (R6, R22). */
export function resyncCommand(terminal: Terminal): Command {
  return new Command('resync')
    .description('fetches everything again from cursor 0; nothing is deleted, identical rows are not written')
    .requiredOption('--connection <id>', 'the connection')
    .option('--yes', 'do not ask')
    .action(async (options: { connection: string; yes?: true }) => {
      const { connection } = options;
      await onTables(terminal, async ({ db }) => {
        if ((await readPosition(db, connection)) === undefined) throw unknown(connection);
        const known = await knownConnections(db);
        if (known.some(({ connectionId, removed }) => connectionId === connection && removed))
          throw new CommandFailed(
            `${connection} is removed: no key lists it any more, so that nobody would fetch it`,
          );
        if (!options.yes) await confirm(terminal, `Fetch everything of ${connection} again from cursor 0?`);
        const epoch = await inTransaction(db, BESIDE, async (trx) => {
          const state = await lockState(trx, connection);
          if (state === undefined) return undefined;
          await startEpoch(trx, connection, 'resync', false);
          // Heard at the commit by the daemon that holds it, which otherwise sees it at its next renewal.
          await announceDue(trx, [connection]);
          return state.epoch + 1;
        });
        if (epoch === undefined) throw unknown(connection);
        terminal.stdout.write(`${connection}: epoch ${epoch} begins at cursor 0 with the next poll\n`);
      });
    });
}

function unknown(connection: string): CommandFailed {
  return new CommandFailed(`no connection ${connection} is known here`);
}
