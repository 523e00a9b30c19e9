/** `npm run bench -- [NAME…]`: see docs/benchmarks.md. Progress goes to stderr, results to stdout. */
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { features } from './features.ts';
import { ingest } from './ingest.ts';
import { latency } from './latency.ts';
import { machine } from './machine.ts';
import { media } from './media.ts';
import { memory } from './memory.ts';
import { replay } from './replay.ts';
import { intoDocument, markdown, type Report, text } from './report.ts';
import type { BenchResult } from './result.ts';
import { scale } from './scale.ts';
import { search } from './search.ts';
import { type BenchOptions, openStage } from './stage.ts';
import { verify } from './verify.ts';
import { views } from './views.ts';

const BENCHES = { ingest, replay, latency, memory, scale, verify, views, features, search, media };
type Name = keyof typeof BENCHES;

const USAGE = `npm run bench -- [${Object.keys(BENCHES).join('] [')}] [options]
  --rounds N    rounds of each (5)
  --rows N      messages of a backlog (each bench's own)
  --seed N      the simulated world (1)
  --tiny        the smallest size, one round: only to see that it runs
  --profile     where the time goes, in the daemon and in Postgres (slower)
  --dir DIR     where the database goes: on a disk (/var/tmp)
  --json        the results as JSON
  --markdown    the results as Markdown
  --write FILE  put the results into a document, between its marks
`;

function options(): { names: Name[]; bench: BenchOptions; json: boolean; markdown: boolean; write?: string } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string' },
      rows: { type: 'string' },
      seed: { type: 'string', default: '1' },
      tiny: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
      write: { type: 'string' },
    },
  });
  const whole = (text: string | undefined, name: string, least: number): number | undefined => {
    if (text === undefined) return undefined;
    const value = Number(text);
    if (/^\d{1,7}$/.test(text) && value >= least) return value;
    throw new Error(`${name} wants a whole number from ${least} to 9999999, not "${text}"`);
  };
  const unknown = positionals.filter((name) => !(name in BENCHES));
  if (unknown.length > 0) throw new Error(`there is no bench ${unknown.join(', ')}`);
  const { tiny, profile, dir, json, markdown, write } = values;
  return {
    names: (positionals.length > 0 ? positionals : Object.keys(BENCHES)) as Name[],
    bench: {
      rounds: whole(values.rounds, '--rounds', 1) ?? (tiny ? 1 : 5),
      rows: whole(values.rows, '--rows', 100),
      seed: whole(values.seed, '--seed', 0)!,
      tiny,
      profile,
      dir,
    },
    json,
    markdown,
    ...(write !== undefined && { write }),
  };
}

/** What the load may be, and how long its average is waited for, in milliseconds: what ran before is in it for minutes. */
const CALM = 0.5;
const PATIENCE = 240_000;

async function calm(): Promise<number> {
  const until = performance.now() + PATIENCE;
  while (loadavg()[0]! > CALM && performance.now() < until) await sleep(1_000);
  return loadavg()[0]!;
}

const note = (line: string) => void process.stderr.write(`${line}\n`);

let given: ReturnType<typeof options>;
try {
  given = options();
} catch (error) {
  note(`${(error as Error).message}\n${USAGE}`);
  process.exit(2);
}
const { names, bench } = given;
const load = bench.tiny ? loadavg()[0]! : await calm();
const date = new Date().toISOString();
const stage = await openStage(bench, note);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void stage.close().finally(() => process.exit(1)));
}
const results: BenchResult[] = [];
try {
  note(`PostgreSQL ${stage.postgres.version}, seed ${bench.seed}, load ${load.toFixed(2)}`);
  for (const name of names) {
    note(`\n${name}`);
    results.push(await BENCHES[name](stage));
    await stage.clear();
  }
} finally {
  await stage.close();
}
const report: Report = {
  date,
  command: `npm run bench -- ${process.argv.slice(2).join(' ')}`.trim(),
  seed: bench.seed,
  rounds: bench.rounds,
  unfit: [
    ...(bench.tiny ? ['a tiny size'] : []),
    ...(bench.profile ? ['under a profiler'] : []),
    ...(load > CALM ? [`the machine was busy (load ${load.toFixed(2)} at the start)`] : []),
  ],
  machine: machine(stage.postgres.version, load),
  settings: stage.postgres.settings,
  results,
};
if (given.write !== undefined) {
  writeFileSync(given.write, intoDocument(readFileSync(given.write, 'utf8'), report));
}
if (given.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
else process.stdout.write(given.markdown ? markdown(report) : text(report));
// What is left open (an agent's sockets, a timer) is no reason to stay.
process.exit(0);
