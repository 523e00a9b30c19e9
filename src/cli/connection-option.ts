import { Option } from 'commander';
import { knownConnections } from '../store/connections.ts';
import type { Db } from '../store/database.ts';
import { CommandFailed } from './terminal.ts';

/** `--connection ID`, as often as one likes; undefined for all connections. */
export function connectionOption(): Option {
  return new Option('--connection <id>', 'only this one; may be given again').argParser(
    (id: string, before: readonly string[] = []) => [...before, id],
  );
}

/** Of a connection of which there is nothing: a slip in its id must not look like that.
 * @throws CommandFailed where no such connection is known. */
export async function refuseUnknown(db: Db, connectionId: string | undefined): Promise<void> {
  if (connectionId === undefined) return;
  const known = await knownConnections(db);
  if (!known.some((one) => one.connectionId === connectionId))
    throw new CommandFailed(`no connection ${connectionId} is known here`);
}
