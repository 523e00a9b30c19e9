import { Option } from 'commander';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import type { Replica } from '../replica/replica.ts';
import { knownConnections } from '../store/connections.ts';
import type { Db } from '../store/database.ts';
import { CommandFailed } from './terminal.ts';

/** `--connection ID`, as often as one likes; undefined for all connections. */
export function connectionOption(): Option {
  return new Option('--connection <id>', 'only this one; may be given again').argParser(
    (id: string, before: readonly string[] = []) => [...before, id],
  );
}

/**
 * Takes named connections for this deployment's, with the keys that list them.
 * @throws CommandFailed where the one without an id is meant, and cannot be asked for: once ids are listed, a request
 * without one may mean any of them (R21).
 */
export async function assumeNamed(
  { directory, discovery }: Pick<Replica, 'directory' | 'discovery'>,
  named: readonly ConnectionId[],
  signal: AbortSignal,
): Promise<void> {
  const isUnnamed = named.includes(UNNAMED_CONNECTION);
  // Of several keys, which is theirs?
  if (directory.keys.length > 1 || isUnnamed) await discovery.look(signal);
  if (isUnnamed && !directory.connections.includes(UNNAMED_CONNECTION)) {
    throw new CommandFailed(
      `${UNNAMED_CONNECTION} cannot be asked for: connections have ids now, see \`wa-replica status\``,
    );
  }
  directory.assume(named);
}

/** Of a connection of which there is nothing: a slip in its id must not look like that.
 * @throws CommandFailed where no such connection is known. */
export async function refuseUnknown(db: Db, connectionId: string | undefined): Promise<void> {
  if (connectionId === undefined) return;
  const known = await knownConnections(db);
  if (!known.some((one) => one.connectionId === connectionId))
    throw new CommandFailed(`no connection ${connectionId} is known here`);
}
