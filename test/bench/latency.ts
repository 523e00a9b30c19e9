import { catchUp, finish, pagesOf } from './backlog.ts';
import { alternate, type BenchResult, number, type Step, type Table } from './result.ts';
import { sequential } from './sequential.ts';
import type { Stage } from './stage.ts';
import { expectTruth } from './truth.ts';

const LATENCY = 20;
const LIMITS = [500, 1_000];

const sequentialName = (limit: number) => `fetch, then write; pages of ${number(limit)}`;
const daemonName = (limit: number) => `wa-replica; pages of ${number(limit)}`;

/** An upstream that is 20 ms away: what is gained by fetching the next page while this one is written. */
export async function latency(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(100_000, 2_000);
  const upstream = await stage.upstream({ connections: 1, messages, latencyMs: LATENCY });
  const steps: Step[] = LIMITS.flatMap((limit) => [
    async (round) => {
      const database = await stage.postgres.createDatabase();
      const sample = await sequential(stage, upstream, database, pagesOf(limit));
      if (round === 0) await expectTruth(upstream, database);
      await database.drop();
      return { [sequentialName(limit)]: sample };
    },
    async (round) => {
      const name = daemonName(limit);
      const database = await stage.postgres.createDatabase();
      const { sample, daemon } = await catchUp(stage, upstream, database, pagesOf(limit));
      await finish(stage, daemon, database, name);
      if (round === 0) await expectTruth(upstream, database);
      await database.drop();
      return { [name]: sample };
    },
  ]);
  const series = await alternate(steps, stage.options.rounds, stage.note);
  const tables = LIMITS.map((limit): Table => {
    const [base, subject] = [sequentialName(limit), daemonName(limit)];
    return {
      title: `Pages of ${number(limit)}`,
      unit: 'messages/s',
      series: series.filter(({ name }) => name === base || name === subject),
      ratios: [{ to: base, label: '× sequential' }],
      targets: { [subject]: '≥ 1.5' },
      notes: [],
    };
  });
  return {
    bench: 'latency',
    about: `A backlog of ${number(messages)} messages from an upstream that waits ${LATENCY} ms before each answer. The baseline is made of the daemon's own parts, but fetches a page only when the one before it is committed.`,
    tables,
  };
}
