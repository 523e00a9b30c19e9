import { setTimeout as sleep } from 'node:timers/promises';
import { catchUp, finish } from './backlog.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { MB } from './proc.ts';
import { alternate, type BenchResult, number, type Sample, type Series, spread } from './result.ts';
import type { Stage } from './stage.ts';
import { expectCount, expectTruth } from './truth.ts';
import type { Upstream } from './upstream.ts';

/** The most that a run's rows are held in memory for, to be compared with the truth. */
const COMPARED = 300_000;
/** Messages at each end of a backlog whose rates are compared, at most; less where a tenth is less. */
const END = 100_000;
/** As the compose file has them, and docs/scaling.md advises for millions of messages. */
const ROOM = { shared_buffers: '512MB', max_wal_size: '4GB' };

/** What the daemon takes of memory at backlogs of two sizes and at rest, and whether it slows down on the way. */
export async function memory(stage: Stage): Promise<BenchResult> {
  const most = stage.rows(200_000, 2_000);
  const sizes = [Math.min(stage.size(20_000, 500), most / 2), most];
  const upstreams = [];
  for (const messages of sizes) upstreams.push(await stage.upstream({ connections: 1, messages }));
  const [less, more] = upstreams as [Upstream, Upstream];
  const roomy = await stage.tuned(ROOM);
  const [small, large] = sizes.map(named) as [string, string];
  const withRoom = `${large}, ${Object.entries(ROOM)
    .map((one) => one.join(' '))
    .join(', ')}`;
  const names = [small, large, withRoom];
  const pace: Series[] = names.map((name) => ({ name, samples: [] }));
  const runs: [Stage, Upstream][] = [
    [stage, less],
    [stage, more],
    [roomy, more],
  ];
  const steps = runs.map(([where, upstream], i) => async (round: number) => {
    const { peak, rates, idle } = await backlog(where, upstream, round, i === 0);
    pace[i]!.samples.push(rates);
    return { [names[i]!]: peak, ...(idle && { [IDLE]: idle }) };
  });
  const series = await alternate(steps, stage.options.rounds, stage.note);
  return {
    bench: 'memory',
    about:
      'Resident memory of the daemon, with the settings it is delivered with, and its pace over a backlog.',
    tables: [
      {
        title: 'Resident memory',
        unit: 'MB (10^6 bytes)',
        series: [...names, IDLE].map((name) => series.find((one) => one.name === name)!),
        ratios: [{ to: small, label: `of ${small}` }],
        targets: Object.fromEntries([...names.map((name) => [name, '≤ 180, flat']), [IDLE, '≤ 80']]),
        notes: [
          'The greatest there was (VmHWM), the start-up included; at rest what there is (VmRSS) ten seconds after the start.',
        ],
      },
      {
        title: 'Pace: the last messages of a backlog against the first',
        unit: 'last rate / first rate',
        series: pace,
        ratios: [],
        targets: { [large]: '≥ 0.70' },
        notes: [
          `Of ${number(END)} messages at each end, or a tenth where that is less, by the times in the ledger.`,
        ],
      },
    ],
  };
}

const IDLE = 'at rest, one connection';

function named(messages: number): string {
  return `backlog of ${number(messages)}`;
}

async function backlog(
  stage: Stage,
  upstream: Upstream,
  round: number,
  alsoIdle: boolean,
): Promise<{ peak: Sample; rates: Sample; idle: Sample | undefined }> {
  const database = await stage.postgres.createDatabase();
  const seen: number[] = [];
  let timer: NodeJS.Timeout | undefined;
  const { sample, daemon } = await catchUp(stage, upstream, database, {}, (started) => {
    timer = setInterval(() => seen.push(started.memory().rss), 100);
  });
  clearInterval(timer);
  const { peak } = daemon.memory();
  await finish(stage, daemon, database, named(upstream.messages));
  const compare = round === 0 && upstream.messages <= COMPARED;
  await (compare ? expectTruth : expectCount)(upstream, database);
  const rates = await pace(database, upstream.messages);
  const idle = alsoIdle ? await atRest(stage, upstream, database) : undefined;
  await database.drop();
  const details = { 'RSS MB, median': spread(seen).median / MB, 'messages/s': sample.value };
  return { peak: { value: peak / MB, details }, rates, idle };
}

/** A daemon that has nothing to fetch from its start on. */
async function atRest(stage: Stage, upstream: Upstream, database: BenchDatabase): Promise<Sample> {
  const daemon = stage.daemon(upstream, database, { POLL_INTERVAL: '15s', POLL_INTERVAL_IDLE: '60s' });
  await daemon.logged('replicating');
  await sleep(stage.size(10_000, 300));
  const { rss, peak } = daemon.memory();
  await daemon.stop();
  return { value: rss / MB, details: { 'peak MB': peak / MB } };
}

/** Rates of the first and the last messages, from the times at which their pages' transactions began. */
async function pace(database: BenchDatabase, messages: number): Promise<Sample> {
  const pages = await database.query<{ messages: number; at: number }>(
    `select messages, extract(epoch from applied_at)::float8 as at from ${SCHEMA}.sync_pages
      where messages > 0 order by page_id`,
  );
  const end = Math.min(END, messages / 10);
  const first = rateOf(pages, end);
  // A page's time is until the next one begins, so backwards it belongs to the page before.
  const backwards = pages
    .map((page, i) => ({ messages: pages[i - 1]?.messages ?? 0, at: -page.at }))
    .reverse();
  const last = rateOf(backwards, end);
  return { value: last / first, details: { 'first messages/s': first, 'last messages/s': last } };
}

function rateOf(pages: readonly { messages: number; at: number }[], most: number): number {
  let done = 0;
  for (const [i, page] of pages.entries()) {
    const next = pages[i + 1];
    done += page.messages;
    if (next !== undefined && done >= most) return done / (next.at - pages[0]!.at);
  }
  return Number.NaN;
}
