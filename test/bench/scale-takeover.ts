import { waitFor } from '../support/wait.ts';
import type { Daemon } from './daemon.ts';
import { leases, untilCaughtUp, untilEven } from './leases.ts';
import { number, type Sample, type Table } from './result.ts';
import type { Stage } from './stage.ts';

const WORKERS = 3;

/** How long connections are nobody's when one worker of three dies without a word. */
export async function takeover(stage: Stage): Promise<Table> {
  const connections = stage.size(200, 9);
  const ttl = stage.size(5_000, 1_000);
  const upstream = await stage.upstream({ connections, messages: connections * 20 });
  const database = await stage.postgres.createDatabase();
  const start = () =>
    stage.daemon(upstream, database, {
      LEASE_TTL: `${ttl}ms`,
      POLL_INTERVAL: '15s',
      POLL_INTERVAL_IDLE: '60s',
    });
  const daemons: Daemon[] = Array.from({ length: WORKERS }, start);
  await untilCaughtUp(database, connections);
  const samples: Sample[] = [];
  for (let round = 0; round < stage.options.rounds; round++) {
    await untilEven(database, daemons, connections);
    const place = round % WORKERS;
    const victim = daemons[place]!;
    const had = (await leases(database)).get(victim.worker!) ?? 0;
    const killedAt = performance.now();
    await victim.kill('SIGKILL');
    const others = daemons.filter((daemon) => daemon !== victim);
    const taken = async () => {
      const held = await leases(database);
      return others.reduce((sum, { worker }) => sum + (held.get(worker!) ?? 0), 0) === connections;
    };
    await waitFor(taken, { what: 'every connection to be taken over', deadlineMs: ttl * 10, everyMs: 10 });
    const seconds = (performance.now() - killedAt) / 1000;
    samples.push({ value: seconds, details: { 'connections of the dead': had } });
    stage.note(`round ${round + 1}  takeover: ${number(seconds)} s`);
    daemons[place] = start();
  }
  for (const daemon of daemons) await daemon.logged('replicating').then(() => daemon.stop());
  await database.drop();
  const name = `one of ${WORKERS} workers killed, ${number(connections)} connections`;
  return {
    title: `Takeover, LEASE_TTL ${number(ttl / 1000)} s`,
    unit: 's',
    series: [{ name, samples }],
    ratios: [],
    targets: { [name]: `≤ ${number(ttl / 1000 + 2)} s` },
    notes: ['From SIGKILL until every connection has a lease that is held by a living worker.'],
  };
}
