import { setTimeout as sleep } from 'node:timers/promises';
import { untilCaughtUp } from './leases.ts';
import { MB } from './proc.ts';
import { number, type Sample, type Table } from './result.ts';
import type { Stage } from './stage.ts';
import { expectCount } from './truth.ts';

/** What connections cost that have nothing new: one process that polls each of them every 30 s. */
export async function idle(stage: Stage): Promise<Table> {
  const connections = stage.size(1_000, 10);
  const interval = stage.size(30_000, 1_000);
  const upstream = await stage.upstream({ connections, messages: connections * 20 });
  const database = await stage.postgres.createDatabase();
  const poll = `${interval}ms`;
  const daemon = stage.daemon(upstream, database, { POLL_INTERVAL: poll, POLL_INTERVAL_IDLE: poll });
  await daemon.logged('replicating');
  await untilCaughtUp(database, connections);
  await expectCount(upstream, database);
  // Until the polls have spread over the interval.
  await sleep(interval);
  const samples: Sample[] = [];
  for (let round = 0; round < stage.options.rounds; round++) {
    await upstream.mark();
    const from = { node: daemon.cpu(), postgres: stage.postgres.cpu(), upstream: upstream.cpu() };
    const startedAt = performance.now();
    await sleep(interval);
    const seconds = (performance.now() - startedAt) / 1000;
    const share = (now: number, before: number) => ((now - before) / seconds) * 100;
    const sample = {
      value: share(daemon.cpu(), from.node),
      details: {
        'Postgres CPU %': share(stage.postgres.cpu(), from.postgres),
        'upstream CPU %': share(upstream.cpu(), from.upstream),
        'RSS MB': daemon.memory().rss / MB,
        'peak RSS MB': daemon.memory().peak / MB,
        'polls/s': (await upstream.report()).pages / seconds,
      },
    };
    samples.push(sample);
    const { value, details } = sample;
    stage.note(`round ${round + 1}  idle: ${number(value)} %, ${number(details['RSS MB'])} MB`);
  }
  await daemon.stop();
  await database.drop();
  const name = `${number(connections)} idle connections, one process`;
  return {
    title: `Idle connections, polled every ${number(interval / 1000)} s`,
    unit: '% of a core',
    series: [{ name, samples }],
    ratios: [],
    targets: { [name]: '< 10 %, < 200 MB' },
    notes: [`A round is ${number(interval / 1000)} s of the same process.`],
  };
}
