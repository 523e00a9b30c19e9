import { catchUp, finish, pagesOf } from './backlog.ts';
import { copy, exportRows, type Rows } from './copy.ts';
import { psqlVersion } from './machine.ts';
import { naive } from './naive.ts';
import { naiveEverything } from './naive-everything.ts';
import { type PeerRows, peerRows } from './peers.ts';
import { alternate, type BenchResult, number, type Sample, type Step } from './result.ts';
import type { Stage } from './stage.ts';
import { stripe } from './stripe.ts';
import { expectCount, expectTruth } from './truth.ts';
import { servingRate, type Upstream } from './upstream.ts';

const COPY = psqlVersion() === undefined ? 'copy, by the server' : 'psql \\copy';
const NAIVE = 'naive: row at a time, a transaction per page';
const EVERYTHING = 'naive, everything: also what the replica makes of a message';
const STRIPE = "stripe's way: five upserts at once, autocommit";

/** What an upstream keeps of its answers, in bytes: it stands for a machine that is not this one. */
export const KEPT = 400 * 1024 ** 2;

/** A backlog from the first request to the last commit, against the limit and the peers. */
export async function ingest(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(200_000, 1_000);
  const one = await stage.upstream({ connections: 1, messages, keepBytes: KEPT });
  const four = await stage.upstream({ connections: 4, messages, keepBytes: KEPT });
  const serving: string[] = [];
  for (const limit of [1_000, 500]) {
    const { messagesPerSecond, megabytesPerSecond } = await servingRate(one, limit);
    serving.push(
      `${number(messagesPerSecond)} messages/s (${number(megabytesPerSecond)} MB/s) in pages of ${number(limit)}`,
    );
  }
  // It has its answers then, as that of one connection.
  await servingRate(four, 1_000);
  const { rows, peer, besides } = await prepare(stage, one);
  const steps: Step[] = [
    async () => ({ [COPY]: await copy(stage, rows) }),
    async () => ({ [NAIVE]: await naive(stage, peer) }),
    async () => ({ [EVERYTHING]: await naiveEverything(stage, peer) }),
    async () => ({ [STRIPE]: await stripe(stage, peer) }),
    subject(stage, 'wa-replica, pages of 1,000', one, pagesOf(1_000)),
    subject(stage, 'wa-replica, pages of 500', one, pagesOf(500)),
    subject(stage, 'wa-replica, as delivered (500, growing to 2,000)', one, {}),
    subject(stage, 'wa-replica, four connections, pages of 1,000', four, pagesOf(1_000)),
  ];
  const series = await alternate(steps, stage.options.rounds, stage.note);
  rows.remove();
  return {
    bench: 'ingest',
    about: `A backlog of ${number(messages)} messages: HTTP, checked, mended, upserted, ledger, committed.`,
    tables: [
      {
        title: 'Rate of a backlog',
        unit: 'messages/s',
        series,
        ratios: [
          { to: COPY, label: 'of \\copy' },
          { to: NAIVE, label: '× naive' },
          { to: EVERYTHING, label: '× naive, everything' },
          { to: STRIPE, label: "× stripe's" },
        ],
        targets: {
          'wa-replica, pages of 1,000': '≥ 0.40 (goal 0.45), ≥ 10 × naive, ≥ 12 × stripe’s',
          'wa-replica, pages of 500': '≥ 0.35',
          'wa-replica, four connections, pages of 1,000': '≥ 0.60',
        },
        notes: [
          `Within its time the daemon also writes ${besides}, and a ledger row a page; only messages are counted. \\copy writes the messages alone, and the peers a tenth of them, from memory.`,
          `The upstream alone serves a client that throws everything away ${serving.join(', ')}; it shares the machine with daemon and Postgres.`,
        ],
      },
    ],
  };
}

/** A first run, not counted: its rows are what the baselines write, once they are known to be right. */
async function prepare(
  stage: Stage,
  upstream: Upstream,
): Promise<{ rows: Rows; peer: PeerRows; besides: string }> {
  const database = await stage.postgres.createDatabase();
  const { daemon } = await catchUp(stage, upstream, database, pagesOf(1_000));
  await daemon.stop();
  await expectTruth(upstream, database);
  const rows = await exportRows(stage, database);
  const peer = await peerRows(database, Math.ceil(rows.count / 10));
  const [others] = await database.query<{ text: string }>(
    `select format('%s contacts, %s conversations with %s participants',
      (select count(*) from whatsapp.contacts), (select count(*) from whatsapp.conversations),
      (select count(*) from whatsapp.conversation_participants)) as text`,
  );
  await database.drop();
  return { rows, peer, besides: others!.text };
}

function subject(
  stage: Stage,
  name: string,
  upstream: Upstream,
  env: Readonly<Record<string, string>>,
): Step {
  return async (round) => {
    const database = await stage.postgres.createDatabase();
    const { sample, daemon } = await catchUp(stage, upstream, database, env);
    await finish(stage, daemon, database, name);
    // The first of each is compared field by field.
    await (round === 0 ? expectTruth : expectCount)(upstream, database);
    await database.drop();
    return { [name]: sample satisfies Sample };
  };
}
