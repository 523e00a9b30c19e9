import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { promisify } from 'node:util';
import { catchUp, finish } from './backlog.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { alternate, type BenchResult, number, type Sample } from './result.ts';
import { daemonSettings, type Stage } from './stage.ts';
import { expectTruth } from './truth.ts';
import type { Upstream } from './upstream.ts';

/** Drift that is planted, each in rows of its own: how many of `n` messages, and by which statement. */
const PLANTED: Readonly<Record<string, { of: (n: number) => number; sql: (some: string) => string }>> = {
  missing: { of: (n) => Math.ceil(n / 100), sql: (some) => `delete from ${SCHEMA}.messages where ${some}` },
  different: {
    of: (n) => Math.ceil(n / 200),
    sql: (some) => `update ${SCHEMA}.messages set body = 'forged' where ${some}`,
  },
  older: {
    of: (n) => Math.ceil(n / 200),
    sql: (some) => `update ${SCHEMA}.messages set seq = 1, body = 'outdated' where ${some}`,
  },
};

/** What `verify --json` prints, as far as it is used. */
interface Finding {
  readonly remaining: number;
  readonly connections: readonly {
    readonly state: string;
    readonly requests: number;
    readonly checked: number;
    readonly drift: number;
    readonly mended: number;
  }[];
}

/**
 * The whole of a replica against the upstream's lists: untouched, with drift planted into it, mended, and again. It fails
 * where a planted difference is not found, another is, or the tables do not equal the upstream's truth in the end.
 */
export async function verify(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(20_000, 600);
  const upstream = await stage.upstream({ connections: 1, messages });
  let planted = 0;
  const step = async () => {
    const database = await stage.postgres.createDatabase();
    const { daemon } = await catchUp(stage, upstream, database, {});
    await finish(stage, daemon, database, 'verify');
    const untouched = await run(stage, upstream, database, []);
    expectDrift(untouched, 0, 0);
    planted = await plant(database, upstream.messages);
    const found = await run(stage, upstream, database, []);
    expectDrift(found, planted, planted);
    const mended = await run(stage, upstream, database, ['--repair']);
    expectDrift(mended, planted, 0);
    const after = await run(stage, upstream, database, []);
    expectDrift(after, 0, 0);
    await expectTruth(upstream, database);
    await database.drop();
    return {
      'as replicated': sampleOf(untouched),
      'with drift planted': sampleOf(found),
      'the same, with --repair': sampleOf(mended),
      'after the repair': sampleOf(after),
    };
  };
  const series = await alternate([step], stage.options.rounds, stage.note);
  return {
    bench: 'verify',
    about: `A replica of ${number(messages)} messages against the upstream's own lists, at no polite rate.`,
    tables: [
      {
        title: 'Records compared',
        unit: 'records/s',
        series,
        ratios: [],
        notes: [
          `${number(planted)} differences are planted: rows deleted, texts forged, versions set back. All of them are found, and nothing else; after the repair every row equals the upstream's truth.`,
        ],
      },
    ],
  };
}

interface Run {
  readonly seconds: number;
  readonly status: number;
  readonly finding: Finding;
}

async function run(
  stage: Stage,
  upstream: Upstream,
  database: BenchDatabase,
  args: readonly string[],
): Promise<Run> {
  const env = {
    PATH: process.env.PATH,
    ...stage.env,
    ...daemonSettings(upstream, database),
    VERIFY_RATE: '1000',
  };
  const startedAt = performance.now();
  const { stdout, status } = await promisify(execFile)(
    process.execPath,
    [stage.bin, 'verify', '--json', ...args],
    { cwd: tmpdir(), env },
  ).then(
    (ended) => ({ stdout: ended.stdout, status: 0 }),
    (error: { stdout: string; stderr: string; code: number }) => {
      if (!error.stdout) throw new Error(`wa-replica verify ended with ${error.code}:\n${error.stderr}`);
      return { stdout: error.stdout, status: error.code };
    },
  );
  return { seconds: (performance.now() - startedAt) / 1000, status, finding: JSON.parse(stdout) as Finding };
}

async function plant(database: BenchDatabase, messages: number): Promise<number> {
  let planted = 0;
  for (const { of, sql } of Object.values(PLANTED)) {
    // Recent ones, which the upstream still serves; none of those before.
    const some = `(connection_id, message_id) in (select connection_id, message_id from ${SCHEMA}.messages
      where sent_at > now() - interval '20 days' and body is not null and body not in ('forged', 'outdated')
      order by message_id limit ${of(messages)})`;
    planted += (await database.query(`${sql(some)} returning 1 as done`)).length;
  }
  return planted;
}

function expectDrift({ status, finding }: Run, drift: number, remaining: number): void {
  const [one] = finding.connections;
  const is = { status, state: one!.state, drift: one!.drift, remaining: finding.remaining };
  const wanted = { status: remaining === 0 ? 0 : 1, state: 'finished', drift, remaining };
  if (JSON.stringify(is) !== JSON.stringify(wanted))
    throw new Error(`verify found ${JSON.stringify(is)}, not ${JSON.stringify(wanted)}`);
}

function sampleOf({ seconds, finding }: Run): Sample {
  const { requests, checked, drift, mended } = finding.connections[0]!;
  return { value: checked / seconds, details: { seconds, requests, checked, drift, mended } };
}
