import { waitFor } from '../support/wait.ts';
import { catchUp, finish, pagesOf } from './backlog.ts';
import { command } from './daemon.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { alternate, type BenchResult, number, type Sample } from './result.ts';
import { daemonSettings, type Stage } from './stage.ts';
import { expectTruth } from './truth.ts';

const FIRST = 'first sync';
const AGAIN = 'resync, nothing has changed';

/** Everything again from cursor 0, when nothing has changed: it should cost reading, not writing. */
export async function replay(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(200_000, 1_000);
  const upstream = await stage.upstream({ connections: 1, messages });
  const env = pagesOf(1_000);
  const step = async (round: number) => {
    const database = await stage.postgres.createDatabase();
    const first = await catchUp(stage, upstream, database, env);
    await finish(stage, first.daemon, database, FIRST);
    // As the tables are some time later: what a first reading of new rows costs (hint bits, which with checksums
    // write WAL) is the insert's doing, not the resync's.
    await database.query(`vacuum (analyze)`);
    await database.query('checkpoint');
    const id = upstream.connections[0]!.id;
    const around = { ...stage.env, ...daemonSettings(upstream, database) };
    await command(['resync', '--connection', id, '--yes'], around);
    const before = await writesOf(database);
    const again = await catchUp(stage, upstream, database, env);
    await finish(stage, again.daemon, database, AGAIN);
    const after = await writesOf(database);
    if (round === 0) await expectTruth(upstream, database);
    await database.drop();
    const details = {
      ...again.sample.details,
      'dead tuples': after.dead - before.dead,
      writes: after.n - before.n,
    };
    return { [FIRST]: first.sample, [AGAIN]: { ...again.sample, details } satisfies Sample };
  };
  const series = await alternate([step], stage.options.rounds, stage.note);
  return {
    bench: 'replay',
    about: `A resync of ${number(messages)} messages that are all stored already, in pages of 1,000, after a vacuum and a checkpoint.`,
    tables: [
      {
        title: 'Rate of a resync',
        unit: 'messages/s',
        series,
        ratios: [{ to: FIRST, label: 'of the first sync' }],
        targets: { [AGAIN]: '≥ 1.3, ≤ 60 B of WAL per message' },
        notes: [
          'WAL is all that the server wrote meanwhile, the ledger and the leases included. Dead tuples and writes (inserts, updates, deletes) are those of messages, contacts, conversations and participants.',
        ],
      },
    ],
  };
}

/** What the tables of the replica have seen so far, once everybody's counts are in. */
async function writesOf(database: BenchDatabase): Promise<{ dead: number; n: number }> {
  const alone = async () => {
    const [row] = await database.query<{ n: number }>(
      `select count(*)::integer as n from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`,
    );
    return row!.n === 0;
  };
  await waitFor(alone, { what: "the daemon's connections to be closed" });
  const [row] = await database.query<{ dead: number; n: number }>(
    `select sum(n_dead_tup)::float8 as dead, sum(n_tup_ins + n_tup_upd + n_tup_del)::float8 as n
      from pg_stat_user_tables where schemaname = $1
        and relname in ('messages', 'contacts', 'conversations', 'conversation_participants')`,
    [SCHEMA],
  );
  return row!;
}
