import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { catchUp, finish, pagesOf } from './backlog.ts';
import { SCHEMA } from './postgres.ts';
import { alternate, type BenchResult, number, type Step } from './result.ts';
import type { Stage } from './stage.ts';
import { expectCount, expectTruth } from './truth.ts';
import type { Upstream } from './upstream.ts';

const OFF = 'MEDIA_STORE=off';
const QUEUED = 'queued, and the store out of reach';
const ON = 'fetched meanwhile, into a folder';

/** What attachments cost the messages: a backlog without them, with the queue alone, and with files that come meanwhile. */
export async function media(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(100_000, 1_000);
  const upstream = await stage.upstream({ connections: 1, messages });
  const folder = mkdtempSync(path.join(stage.options.dir ?? tmpdir(), 'wa-replica-bench-media-'));
  try {
    const inTheWay = path.join(folder, 'file');
    writeFileSync(inTheWay, '');
    const variants = {
      [OFF]: 'off',
      [QUEUED]: pathToFileURL(path.join(inTheWay, 'store')).href,
      [ON]: pathToFileURL(path.join(folder, 'store')).href,
    };
    const steps = Object.entries(variants).map(([name, store]) =>
      step(stage, upstream, name, store, path.join(folder, 'store')),
    );
    return {
      bench: 'media',
      about: `A backlog of ${number(messages)} messages in pages of 1,000, with attachments off and on.`,
      tables: [
        {
          title: 'Messages beside attachments',
          unit: 'messages/s',
          series: await alternate(steps, stage.options.rounds, stage.note),
          ratios: [{ to: OFF, label: 'of MEDIA_STORE=off' }],
          targets: { [QUEUED]: 'not measurably slower', [ON]: 'not measurably slower' },
          notes: [
            'Until the last message is committed; files that are still to come are not waited for. Those that come meanwhile share two processes with it: the daemon and the simulated upstream.',
          ],
        },
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function step(stage: Stage, upstream: Upstream, name: string, store: string, folder: string): Step {
  return async (round) => {
    const database = await stage.postgres.createDatabase();
    const env = { ...pagesOf(1_000), MEDIA_STORE: store };
    const { sample, daemon } = await catchUp(stage, upstream, database, env);
    const [found] = await database.query<{ queued: number; stored: number }>(
      `select count(*)::integer as queued, (count(*) filter (where state = 'stored'))::integer as stored
        from ${SCHEMA}.media`,
    );
    await finish(stage, daemon, database, name);
    await (round === 0 ? expectTruth : expectCount)(upstream, database);
    await database.drop();
    // The next database is another replica's.
    rmSync(folder, { recursive: true, force: true });
    return { [name]: { ...sample, details: { ...sample.details, ...found! } } };
  };
}
