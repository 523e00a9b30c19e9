import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { signature } from '../../src/simulator/webhooks.ts';
import { waitFor } from '../support/wait.ts';
import type { Daemon } from './daemon.ts';
import { untilCaughtUp, untilEven } from './leases.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { number, quantile, type Sample, type Series, type Table } from './result.ts';
import type { Stage } from './stage.ts';
import type { Upstream } from './upstream.ts';

const SECRET = 'whsec_bench';
/** Between two events, in milliseconds: whether the one before has been dealt with is not waited for. */
const PAUSE = 50;
const ID = 'bench_';

/** From a signed event at a worker's door to the message in the table. */
export async function webhook(stage: Stage): Promise<Table> {
  const events = stage.size(200, 5);
  const series: Series[] = [];
  const targets: Record<string, string> = {};
  for (const count of [1, 3]) {
    const name = count === 1 ? 'one worker' : `${count} workers, all events at one of them`;
    series.push({ name, samples: await measured(stage, count, events) });
    targets[name] = 'p99 < 500 ms';
    await stage.clear();
  }
  return {
    title: 'From the webhook to the row',
    unit: 'ms, p99',
    series,
    ratios: [],
    targets,
    notes: [
      `${number(events)} events a round, one every ${PAUSE} ms, each for one new message of one of 20 connections: from the sending of the event until a NOTIFY of the row's commit is heard. No poll is due meanwhile.`,
    ],
  };
}

async function measured(stage: Stage, count: number, events: number): Promise<Sample[]> {
  const connections = 20;
  const upstream = await stage.upstream({ connections, messages: connections * 20 });
  const database = await stage.postgres.createDatabase();
  const env = { WEBHOOK_SECRET: SECRET, HTTP_PORT: '0' };
  const daemons = Array.from({ length: count }, () => stage.daemon(upstream, database, env));
  await untilCaughtUp(database, connections);
  await untilEven(database, daemons, connections);
  const door = daemons[0]!;
  await door.logged('serving HTTP');
  const ear = await listenToRows(database);
  const samples: Sample[] = [];
  for (let round = 0; round < stage.options.rounds; round++) {
    const sample = await send(upstream, portOf(door), ear.seen, round, events);
    const { p50 } = sample.details as { p50: number };
    stage.note(
      `round ${round + 1}  webhook, ${count}: p50 ${number(p50)} ms, p99 ${number(sample.value)} ms`,
    );
    samples.push(sample);
  }
  await ear.close();
  for (const daemon of daemons) await daemon.stop();
  await database.drop();
  return samples;
}

async function send(
  upstream: Upstream,
  port: number,
  seen: ReadonlyMap<string, number>,
  round: number,
  events: number,
): Promise<Sample> {
  const sent = new Map<string, number>();
  for (let i = 0; i < events; i++) {
    const { id: connection } = upstream.connections[(i * 7) % upstream.connections.length]!;
    const id = `${ID}${round}_${i}`;
    const json = `{"message_id":"${id}","conversation_id":"c","body":"b","sent_at":"2026-01-01T00:00:00Z","seq":{{seq}}}`;
    await upstream.control('raw', { connection, kind: 'message', json });
    const body = JSON.stringify({ id, type: 'whatsapp.message.received', connection_id: connection });
    const headers = { 'x-whatsapp-use-signature': signature(SECRET, Math.floor(Date.now() / 1000), body) };
    sent.set(id, performance.now());
    const answer = await fetch(`http://127.0.0.1:${port}/webhooks/whatsapp-use`, {
      method: 'POST',
      headers,
      body,
    });
    if (answer.status !== 200) throw new Error(`the webhook answers ${answer.status}`);
    await answer.body?.cancel();
    await sleep(PAUSE);
  }
  const all = () => [...sent.keys()].every((id) => seen.has(id));
  await waitFor(all, { what: 'the row of every event', deadlineMs: 30_000 });
  const took = [...sent].map(([id, at]) => seen.get(id)! - at).sort((a, b) => a - b);
  return {
    value: quantile(took, 0.99),
    details: { p50: quantile(took, 0.5), max: took.at(-1)!, events },
  };
}

/** Hears of each new row of ours when its transaction has committed. */
async function listenToRows(
  database: BenchDatabase,
): Promise<{ seen: ReadonlyMap<string, number>; close(): Promise<void> }> {
  await database.query(`
    create function bench_told() returns trigger language plpgsql as
      $$ begin perform pg_notify('bench', new.message_id); return null; end $$;
    create trigger bench_told after insert on ${SCHEMA}.messages for each row
      when (starts_with(new.message_id, '${ID}')) execute function bench_told()`);
  const seen = new Map<string, number>();
  const client = new pg.Client({ connectionString: database.url });
  client.on('notification', ({ payload }) => seen.set(payload ?? '', performance.now()));
  await client.connect();
  await client.query('listen bench');
  return { seen, close: () => client.end() };
}

function portOf({ stderr }: Daemon): number {
  const line = stderr.split('\n').find((one) => one.includes('"msg":"serving HTTP"'));
  return (JSON.parse(line ?? '{}') as { port: number }).port;
}
