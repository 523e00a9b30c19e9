import { Command } from 'commander';
import { unlessAborted } from '../lib/wait.ts';
import { prepareSchema } from '../replica/prepare-schema.ts';
import type { Replica } from '../replica/replica.ts';
import { INDEX_BUILDERS, type Tended, tendIndexes } from '../store/indexes.ts';
import { tellOfHolders } from '../store/lock-holders.ts';
import { migrationState, schemaVersion } from '../store/migrator.ts';
import { withReplica } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';

/** `wa-replica migrate`: brings the schema up to date, or lists what is applied and what is pending. */
export function migrateCommand(terminal: Terminal): Command {
  return new Command('migrate')
    .description('brings the schema up to date')
    .option('--status', 'only list; exit status 1 when something is pending')
    .action(async (options: { status?: true }) => {
      await withReplica(terminal, { needsUpstream: false }, async (replica) => {
        const { db, settings } = replica;
        const schema = settings.WA_REPLICA_SCHEMA;
        const { stdout, stderr, signal } = terminal;
        if (options.status) {
          for (const { name, appliedAt } of await migrationState(db, schema)) {
            stdout.write(
              `${name}  ${appliedAt === undefined ? 'pending' : `applied ${appliedAt.toISOString()}`}\n`,
            );
          }
          const { pending, unknown } = await schemaVersion(db, schema);
          for (const name of unknown) stdout.write(`${name}  unknown: of a newer wa-replica\n`);
          if (pending.length + unknown.length > 0) {
            throw new CommandFailed(
              pending.length > 0
                ? `${pending.length} pending; run \`wa-replica migrate\``
                : 'the schema is newer than this program',
            );
          }
          return;
        }
        const onWaiting = (what: string) => void stderr.write(`waiting for ${what}\n`);
        const mended: string[] = [];
        const onMended = (what: string) => void mended.push(what);
        const how = { migrate: true, patience: 10_000, onWaiting, onMended };
        const done = await prepareSchema(replica, how, signal);
        stdout.write(done.length === 0 ? 'the schema is up to date\n' : `migrated: ${done.join(', ')}\n`);
        for (const what of mended) stdout.write(`mended: ${what}\n`);
        const { built, dropped, left, obstacle } = await tended(replica, terminal, onWaiting);
        if (built.length > 0) stdout.write(`indexes built: ${built.join(', ')}\n`);
        if (dropped.length > 0) stdout.write(`indexes dropped: ${dropped.join(', ')}\n`);
        if (left.length > 0) stderr.write(`wa-replica: another process is building ${left.join(', ')}\n`);
        if (obstacle !== undefined) stderr.write(`wa-replica: ${obstacle.message}\n    ${obstacle.hint}\n`);
      });
    });
}

/** Builds and drops large indexes until the signal, and says what takes long of it. */
async function tended(
  { maintenance, looks, settings }: Replica,
  { stdout, signal }: Terminal,
  onWaiting: (what: string) => void,
): Promise<Tended> {
  const { WA_REPLICA_SCHEMA: schema, SEARCH: search } = settings;
  const done = new AbortController();
  void tellOfHolders(looks, INDEX_BUILDERS, onWaiting, done.signal);
  const onBuilding = (name: string) =>
    void stdout.write(`building ${name} beside the work; if this is interrupted, Postgres goes on\n`);
  try {
    return await unlessAborted(tendIndexes(maintenance, schema, { search }, onBuilding), signal);
  } finally {
    done.abort();
  }
}
