import { catchUp, finish, pagesOf } from './backlog.ts';
import { command } from './daemon.ts';
import { SCHEMA } from './postgres.ts';
import { alternate, type BenchResult, number, type Series, type Step } from './result.ts';
import { daemonSettings, type Stage } from './stage.ts';
import { expectCount, expectTruth } from './truth.ts';
import type { Upstream } from './upstream.ts';

const ALL_ON = 'all on';
const ALL_OFF = 'all off';

/** What may be left out of replicating, and the settings that do. */
const VARIANTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  [ALL_ON]: {},
  'HISTORY=off': { HISTORY: 'off' },
  'CHANGES=off': { CHANGES: 'off' },
  'SEARCH=off': { SEARCH: 'off' },
  [ALL_OFF]: { HISTORY: 'off', CHANGES: 'off', SEARCH: 'off' },
};

const backlog = (variant: string) => `new, ${variant}`;
const edits = (variant: string) => `edited, ${variant}`;

/** What history, change feed and search cost: a backlog of new messages, and one in which every message was edited. */
export async function features(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(100_000, 1_000);
  const upstream = await stage.upstream({ connections: 1, messages });
  const steps = Object.keys(VARIANTS).map((variant) => step(stage, upstream, variant));
  const series = await alternate(steps, stage.options.rounds, stage.note);
  const names = Object.keys(VARIANTS);
  const of = (name: (variant: string) => string): Series[] =>
    names.map((variant) => series.find((one) => one.name === name(variant))!);
  const table = (title: string, name: (variant: string) => string, notes: string[]) => ({
    title,
    unit: 'messages/s',
    series: of(name),
    ratios: [
      { to: name(ALL_OFF), label: 'of all off' },
      { to: name('SEARCH=off'), label: 'of SEARCH=off' },
    ],
    targets: { [name(ALL_ON)]: '≥ 0.70 of all off, ≥ 0.85 of SEARCH=off' },
    notes,
  });
  return {
    bench: 'features',
    about: `A backlog of ${number(messages)} messages in pages of 1,000, with what can be switched off on and off.`,
    tables: [
      table('New messages', backlog, ['The index of the search is there before the first of them.']),
      table('Edited messages', edits, [
        'The same ones again, after each stored row was given another body and an older version: each is an update, a revision and a change.',
      ]),
    ],
  };
}

function step(stage: Stage, upstream: Upstream, variant: string): Step {
  const env = { ...pagesOf(1_000), ...VARIANTS[variant] };
  const id = upstream.connections[0]!.id;
  return async (round) => {
    const expected = round === 0 ? expectTruth : expectCount;
    const database = await stage.postgres.createDatabase();
    const settings = { ...daemonSettings(upstream, database), ...env };
    // Indexes that a daemon builds after its start would come into the middle of it.
    await command(['migrate'], settings);
    const first = await catchUp(stage, upstream, database, env);
    await finish(stage, first.daemon, database, backlog(variant));
    await expected(upstream, database);
    await database.query(
      `update ${SCHEMA}.messages set body = coalesce(body, '') || ' before', seq = seq - 1`,
    );
    await database.query('vacuum (analyze)');
    await command(['resync', '--connection', id, '--yes'], settings);
    await database.query('checkpoint');
    const again = await catchUp(stage, upstream, database, env);
    await finish(stage, again.daemon, database, edits(variant));
    await expected(upstream, database);
    await database.drop();
    return { [backlog(variant)]: first.sample, [edits(variant)]: again.sample };
  };
}
