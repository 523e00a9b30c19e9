/** The window (R17): alarms while it closes. */
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { alertSender } from '../../src/ops/alerts.ts';
import { isSigned } from '../../src/ops/http/webhook.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { WindowWatch } from '../../src/ops/window-watch.ts';
import { useTestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';
import { AlertReceiver } from './alert-receiver.ts';

const DAY = 86_400_000;
const SECRET = 'whsec_test';
const ID = 'conn_a';
const database = useTestDatabase({ migrated: true });
const alerts = new AlertReceiver();
const lines: Record<string, unknown>[] = [];

afterEach(() => {
  lines.length = 0;
});

const stream = {
  write: (text: string) => void lines.push(JSON.parse(text)),
} as unknown as NodeJS.WritableStream;
const log = createLogger({ level: 'info', format: 'json', stream });
const { signal } = new AbortController();

function watch(
  workerId = 'me',
  send = alertSender({ url: alerts.url, secret: SECRET, pause: 1 }),
): WindowWatch {
  return new WindowWatch({ looks: database.db, control: database.db, workerId, window: 30 * DAY, send, log });
}
const told = async (step: string | null) =>
  await waitFor(
    async () =>
      (await database.query('select window_alert from whatsapp.sync_state'))[0]!.window_alert === step,
    {
      what: `${step} to be noted`,
    },
  );
async function behind(days: number): Promise<void> {
  await database.query(`insert into whatsapp.connections values ('${ID}') on conflict do nothing`);
  await database.query(
    `insert into whatsapp.sync_state (connection_id) values ('${ID}') on conflict do nothing`,
  );
  await database.query(
    `update whatsapp.sync_state set caught_up_at = now() - make_interval(days => $1),
    last_error_kind = 'unauthorized', last_error = 'GET /v1/whatsapp/sync: HTTP 401'`,
    [days],
  );
}

test('each step is told once, signed, and sent again until it is taken; then that it is over', async () => {
  await behind(14);
  const first = watch();
  await first.look(signal);
  expect(first.alarms).toEqual({ window: [], gaps: 0 });
  await behind(16);
  alerts.statuses = [500, 302, 429];
  for (let looks = 0; looks < 3; looks++) await first.look(signal);
  expect(first.alarms.window).toMatchObject([
    { connection_id: ID, step: 'warn', kind: 'unauthorized', what_to_do: expect.stringContaining('API_KEY') },
  ]);
  await told('warn');
  // Four attempts of one alert.
  expect(alerts.received.map(({ event }) => event.id)).toEqual(Array(4).fill(alerts.received[0]!.event.id));
  const { path, headers, body, event } = alerts.received[3]!;
  expect(path).toBe('/alerts?token=x');
  expect(event).toMatchObject({ type: 'wa_replica.window.warning', connection_id: ID });
  const since = Date.parse(event.payload.since);
  expect(Date.parse(event.payload.lost_from) - since).toBe(30 * DAY);
  expect(Math.round(event.payload.lag_seconds / 86_400)).toBe(16);
  expect(event.payload).toMatchObject({ kind: 'unauthorized' });
  expect(event.payload.window_left_seconds + event.payload.lag_seconds).toBe(30 * 86_400);
  expect(headers).toMatchObject({
    'x-wa-replica-event-id': event.id,
    'x-wa-replica-event-type': 'wa_replica.window.warning',
    'x-wa-replica-timestamp': expect.stringMatching(/^\d{10}$/),
  });
  const header = String(headers['x-wa-replica-signature']);
  expect(isSigned(header, Buffer.from(body), [SECRET], Date.now())).toBe(true);
  expect(isSigned(header, Buffer.from(`${body} `), [SECRET], Date.now())).toBe(false);
  // A restart repeats nothing; another's connection is left to that.
  await watch().look(signal);
  await behind(23);
  await heldBy('you');
  await watch().look(signal);
  expect(alerts.received).toHaveLength(4);
  await watch('you').look(signal);
  await told('error');
  await behind(0);
  const last = watch('you');
  await last.look(signal);
  await told(null);
  // Told apart from what is only sent again.
  expect(new Set(alerts.received.map(({ event }) => event.id)).size).toBe(3);
  expect(alerts.received.slice(4).map(({ event }) => event.type)).toEqual([
    'wa_replica.window.error',
    'wa_replica.window.recovered',
  ]);
  expect(lines.map(({ level, msg }) => `${level} ${msg}`)).toEqual([
    'warn less than half of the window is left',
    'error less than a quarter of the window is left: what is missing will be lost',
    'info the window is wide again',
  ]);
  expect(JSON.stringify(lines)).not.toContain('token=x');
  await heldByNobody();
});

/** Keeps alerts from being noted. @returns what lets them be again. */
async function refuseNotes(): Promise<() => Promise<unknown>> {
  await database.query(`
    create function whatsapp.refuse() returns trigger language plpgsql
      as $$ begin raise 'no' using errcode = '25006'; end $$;
    create trigger refuse before update of window_alert on whatsapp.sync_state for each row execute function whatsapp.refuse()`);
  return () => database.query('drop function whatsapp.refuse cascade');
}
const heldBy = (worker: string) =>
  database.query(
    `update whatsapp.sync_state set lease_owner = $1, lease_expires_at = now() + interval '1 hour'`,
    [worker],
  );
const heldByNobody = () =>
  database.query('update whatsapp.sync_state set lease_owner = null, lease_expires_at = null');
const notSent = () => lines.filter(({ msg }) => msg === 'cannot send an alert').length;

test('an alert that cannot be noted is sent once, and noted when it can be', async () => {
  await behind(16);
  const allow = await refuseNotes();
  const watching = watch();
  for (let looks = 1; looks <= 3; looks++) {
    await watching.look(signal);
    await waitFor(() => notSent() === looks, { what: 'the note to be refused' });
  }
  await allow();
  await watching.look(signal);
  await told('warn');
  await behind(0);
  const over = async () => {
    await watching.look(signal);
    return alerts.received.length > 1;
  };
  await waitFor(over, { what: 'it to be over' });
  await told(null);
  const types = ['wa_replica.window.warning', 'wa_replica.window.recovered'];
  expect(alerts.received.map(({ event }) => event.type)).toEqual(types);
});

test('one that could not be noted holds none back that comes after another worker had the connection', async () => {
  await behind(16);
  await heldBy('me');
  const allow = await refuseNotes();
  const [mine, theirs] = [watch('me'), watch('you')];
  await mine.look(signal);
  await waitFor(() => notSent() === 1, { what: 'the note to be refused' });
  await allow();
  await heldBy('you');
  for (const [days, step] of [
    [16, 'warn'],
    [0, null],
  ] as const) {
    await behind(days);
    for (const one of [mine, theirs]) await one.look(signal);
    await told(step);
  }
  const before = alerts.received.length;
  await heldBy('me');
  await behind(16);
  await mine.look(signal);
  await told('warn');
  const types = alerts.received.slice(before).map(({ event }) => event.type);
  expect(types).toEqual(['wa_replica.window.warning']);
  await behind(0);
  await mine.look(signal);
  await told(null);
  await heldByNobody();
});

test('what hinders a connection is told with what to do about its code', async () => {
  await behind(16);
  await database.query(
    `update whatsapp.sync_state set last_error_kind = 'database', last_error = 'x: 53100'`,
  );
  const first = watch();
  await first.look(signal);
  expect(first.alarms.window).toMatchObject([{ what_to_do: 'the disk of Postgres is full' }]);
  // Its alert is sent beside the look.
  await told('warn');
  await behind(1);
  await first.look(signal);
  await told(null);
});

test('a connection that went to another worker, and comes back, is logged of where it stands then', async () => {
  const [mine, theirs] = [watch('me', async () => {}), watch('you', async () => {})];
  const look = async (days: number, step: string | null) => {
    await behind(days);
    for (const one of [mine, theirs]) await one.look(signal);
    await told(step);
  };
  await heldBy('me');
  await look(16, 'warn');
  await heldBy('you');
  await look(0, null);
  await heldBy('me');
  await look(16, 'warn');
  expect(lines.map(({ msg }) => msg)).toEqual([
    'less than half of the window is left',
    'the window is wide again',
    'less than half of the window is left',
  ]);
  await look(0, null);
  await heldByNobody();
});

test('an alert that the end interrupts is sent by the next start, and no failure', async () => {
  await behind(16);
  await database.query('update whatsapp.sync_state set window_alert = null');
  const ending = new AbortController();
  const slow = watch('me', async (_, ended) => {
    await once(ended, 'abort');
    ended.throwIfAborted();
  });
  await slow.look(ending.signal);
  ending.abort();
  await slow.watch(ending.signal);
  expect(lines.map(({ msg }) => msg)).toEqual(['less than half of the window is left']);
  await watch('me', async () => {}).look(signal);
  await told('warn');
  await behind(0);
  await watch('me', async () => {}).look(signal);
  await told(null);
});

test('a receiver that refuses is told of, and asked again at the next look', async () => {
  await behind(16);
  alerts.statuses = [404];
  const watcher = watch();
  await watcher.look(signal);
  await waitFor(() => notSent() === 1, { what: 'word of it' });
  // No use in trying that again at once.
  expect(alerts.received).toHaveLength(1);
  expect(lines.at(-1)).toMatchObject({
    ...{ error: 'sending an alert: HTTP 404', hint: expect.stringContaining('ALERT_WEBHOOK_URL') },
  });
  await waitFor(
    async () => {
      await watcher.look(signal);
      return alerts.received.length === 2;
    },
    { what: 'the next attempt' },
  );
  await told('warn');
});

test('a receiver that does not answer is asked again', async () => {
  await behind(16);
  await database.query('update whatsapp.sync_state set window_alert = null');
  alerts.statuses = [0];
  await watch('me', alertSender({ url: alerts.url, secret: SECRET, pause: 1, timeout: 1_000 })).look(signal);
  await told('warn');
  expect(alerts.received.length).toBeGreaterThanOrEqual(2);
  expect(new Set(alerts.received.map(({ event }) => event.id)).size).toBe(1);
});

test('what keeps the window from being watched is told, at each doubling', async () => {
  await database.query('alter table whatsapp.gaps rename to elsewhere');
  const ending = new AbortController();
  const watching = new WindowWatch({
    ...{ looks: database.db, control: database.db, workerId: 'me', window: 30 * DAY, send: undefined, log },
    every: 1,
  }).watch(ending.signal);
  try {
    const failures = () => lines.map(({ failures }) => failures);
    await waitFor(() => failures().includes(4), { what: 'the fourth failure' });
    expect(failures().slice(0, 3)).toEqual([1, 2, 4]);
    expect(lines[0]).toMatchObject({ level: 'error', kind: 'database', msg: 'cannot watch the window' });
  } finally {
    ending.abort();
    await watching;
    await database.query('alter table whatsapp.elsewhere rename to gaps');
  }
});
