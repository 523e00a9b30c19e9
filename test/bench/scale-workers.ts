import { measureBacklog, pagesOf } from './backlog.ts';
import type { Daemon } from './daemon.ts';
import { leases, untilEven } from './leases.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { alternate, number, type Sample, type Table } from './result.ts';
import type { Stage } from './stage.ts';
import { expectCount, expectTruth } from './truth.ts';
import type { Upstream } from './upstream.ts';

/** The backlogs of many connections over one, two and four processes that start at the same moment. */
export async function workers(stage: Stage): Promise<Table> {
  const connections = stage.size(200, 8);
  const messages = stage.rows(400_000, 1_600);
  const upstream = await stage.upstream({ connections, messages });
  const numbers = stage.options.tiny ? [1, 2] : [1, 2, 4];
  const steps = numbers.map((count) => async (round: number) => {
    const database = await stage.postgres.createDatabase();
    const sample = await run(stage, upstream, database, count);
    await (round === 0 && stage.options.tiny ? expectTruth : expectCount)(upstream, database);
    await database.drop();
    return { [named(count)]: sample };
  });
  const series = await alternate(steps, stage.options.rounds, stage.note);
  return {
    title: `Backlogs of ${number(connections)} connections, ${number(messages)} messages in all`,
    unit: 'messages/s',
    series,
    ratios: [{ to: named(1), label: '× one worker' }],
    notes: [
      'From the first request of any worker to the last commit. Leases per worker once all is fetched; pages per worker tell who fetched it. "Even after" counts from the first request until no worker holds more than its share.',
    ],
  };
}

function named(count: number): string {
  return count === 1 ? '1 worker' : `${count} workers`;
}

async function run(
  stage: Stage,
  upstream: Upstream,
  database: BenchDatabase,
  count: number,
): Promise<Sample> {
  const connections = upstream.connections.length;
  const daemons: Daemon[] = [];
  let even: Promise<number> = Promise.resolve(0);
  const sample = await measureBacklog(stage, upstream, database, async () => {
    for (let i = 0; i < count; i++) daemons.push(stage.daemon(upstream, database, pagesOf(1_000)));
    await Promise.race(daemons.map((daemon) => daemon.logged('replicating')));
    even = untilEven(database, daemons, connections).then(() => Date.now());
    even.catch(() => {});
    return {
      cpu: () => daemons.reduce((sum, daemon) => sum + daemon.cpu(), 0),
      died: Promise.race(daemons.map((daemon) => daemon.died)),
    };
  });
  const evenAt = await even;
  const { firstAt } = await upstream.report();
  const held = [...(await leases(database)).values()];
  const pages = await database.query<{ n: number }>(
    `select count(*)::integer as n from ${SCHEMA}.sync_pages group by worker order by 1`,
  );
  for (const daemon of daemons) await daemon.stop();
  return {
    value: sample.value,
    details: {
      ...sample.details,
      'fewest leases': Math.min(...held),
      'most leases': Math.max(...held),
      'fewest pages': pages.length < count ? 0 : pages[0]!.n,
      'most pages': pages.at(-1)!.n,
      'even after s': Math.max(0, evenAt - firstAt) / 1000,
    },
  };
}
