import { stripVTControlCharacters } from 'node:util';
import { expect, describe as group, test } from 'vitest';
import { describe } from '../../src/cli/status.ts';
import { printable } from '../../src/cli/terminal.ts';
import type { StatusReport } from '../../src/ops/status.ts';
import type { ConnectionStatus } from '../../src/store/status.ts';

function connection(changes: Partial<ConnectionStatus> = {}): ConnectionStatus {
  return {
    connection_id: 'conn_00000001',
    state: 'live',
    epoch: 1,
    cursor: '9007199254740993',
    caught_up_at: '2026-11-23T09:12:31.123Z',
    lag_seconds: 4.2,
    window_left_seconds: 2_591_995,
    consecutive_failures: 0,
    last_error_kind: null,
    last_error: null,
    worker: 'host-1a2b3c4d',
    rows: { conversations: '20', contacts: '30', messages: '9007199254740993' },
    quarantined: '0',
    gaps: '0',
    window_alarm: null,
    verification: null,
    ...changes,
  };
}

function report(...connections: ConnectionStatus[]): StatusReport {
  const at = '2026-11-23T09:00:00.000Z';
  const worker = {
    worker_id: 'host-1a2b3c4d',
    started_at: at,
    heartbeat_at: at,
    version: '0.1.0',
    host: 'host',
  };
  return { version: '0.1.0', schema_version: '0001', workers: [{ ...worker, connections: 1 }], connections };
}

const tableOf = (text: string) => text.split('\n\n')[0]?.split('\n') ?? [];

test('one line for each connection, and one for the workers', () => {
  expect(describe(report(connection()), false).split('\n')).toEqual([
    'connection     state  cursor            rows              caught up    lag   window  worker',
    'conn_00000001  live   9007199254740993  9007199254741043  11-23 09:12  4.2s  30d     host-1a2b3c4d',
    '',
    'workers: host-1a2b3c4d (1); times in UTC',
    '',
  ]);
});

test('what was never caught up, and what nobody holds', () => {
  const starting = connection({
    state: 'starting',
    caught_up_at: null,
    worker: null,
    window_left_seconds: -90_000,
  });
  expect(
    describe({ ...report(starting), workers: [] }, false)
      .split('\n')
      .slice(1),
  ).toEqual([
    'conn_00000001  starting  9007199254740993  9007199254741043  –          4.2s  −1d     –',
    '',
    'workers: none alive; times in UTC',
    '',
  ]);
  expect(describe(report(), false)).toBe(
    'no connections are known yet: start `wa-replica run` or `wa-replica sync`\n',
  );
});

group('it fits 100 columns', () => {
  const huge = { cursor: '9223372036854775807', state: 'catching_up', lag_seconds: 86_400 * 399 } as const;
  const rows = { conversations: '0', contacts: '0', messages: '99999999999999' };
  test.each<[what: string, Partial<ConnectionStatus>]>([
    ['a long id', { connection_id: `conn_${'x'.repeat(300)}7` }],
    ['a long worker', { worker: `${'long-host-name.'.repeat(10)}-1a2b3c4d` }],
    [
      'everything at its widest',
      { ...huge, rows, connection_id: 'conn_'.repeat(200), worker: 'w'.repeat(100) },
    ],
  ])('with %s', (_, changes) => {
    const lines = tableOf(describe(report(connection(changes), connection()), false));
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(100);
    // The table uses what there is: the names end with what tells them apart.
    expect(lines[1]).toContain('…');
    expect(lines[1]).toContain(changes.cursor ?? '9007199254740993');
  });
});

test('an id that is cut is still told from its neighbours', () => {
  const ids = ['a', 'b', 'c'].map((end) => `conn_${'0'.repeat(60)}${end}`);
  const lines = tableOf(describe(report(...ids.map((id) => connection({ connection_id: id }))), false)).slice(
    1,
  );
  expect(new Set(lines.map((line) => line.split(' ')[0])).size).toBe(3);
});

test('an id cannot move the cursor of a terminal', () => {
  const id = 'conn\u001b[2J\u0007\r\n\u202Ex';
  const text = describe(report(connection({ connection_id: id, quarantined: '2' })), false);
  expect(text.replaceAll('\n', '')).not.toMatch(/\p{C}/u);
  expect(tableOf(text)).toHaveLength(2);
});

test('colour paints the state, and nothing else', () => {
  const connections = [
    connection({ connection_id: 'live' }),
    connection({ connection_id: 'a parked one', state: 'parked' }),
    connection({ connection_id: 'removed', state: 'removed' }),
  ];
  const plain = describe(report(...connections), false);
  const painted = describe(report(...connections), true);
  expect(stripVTControlCharacters(painted)).toBe(plain);
  const lines = tableOf(painted).slice(1);
  expect(lines.map((line) => line.split('\u001b[')[1])).toEqual(['32mlive', '31mparked', '2mremoved']);
  expect(lines.map((line) => line.split('\u001b[').length)).toEqual([3, 3, 3]);
});

test('says below the table what is wrong, and what to do about it', () => {
  const parked = connection({
    state: 'parked',
    last_error_kind: 'unauthorized',
    last_error: 'GET /v1/whatsapp/sync: HTTP 401',
    consecutive_failures: 7,
    quarantined: '12',
  });
  expect(describe(report(parked), false).split('\n\n')[1]?.split('\n')).toEqual([
    'conn_00000001: unauthorized: GET /v1/whatsapp/sync: HTTP 401, 7 failures in a row',
    '    check WHATSAPP_USE_API_KEY and its scope whatsapp:read',
    'conn_00000001: 12 in quarantine, see `wa-replica quarantine list`',
    'workers: host-1a2b3c4d (1); times in UTC',
    '',
  ]);
  const removed = connection({ ...parked, state: 'removed', last_error_kind: 'not_found', quarantined: '0' });
  expect(describe(report(removed), false).split('\n\n')[1]).toMatch(/^workers: /);
  const once = connection({ ...parked, consecutive_failures: 1 });
  expect(describe(report(once), false)).toContain('HTTP 401, 1 failure in a row');
  const full = { last_error_kind: 'database', last_error: 'writing a page: 53100' };
  expect(describe(report(connection({ ...once, ...full })), false)).toContain('the disk of Postgres is full');
});

test('a line for what is about to be lost, what was lost, and what a verification found', () => {
  const verification = {
    ...{ finished_at: '2026-11-23T03:20:00.000Z', state: 'finished' as const, checked: '9', drift: '3' },
    ...{ remaining: '2', ledger_problems: 0, error_kind: null, error: null },
  };
  const lines = (changes: Partial<ConnectionStatus>) =>
    describe(report(connection(changes)), false)
      .split('\n\n')[1]!
      .split('\n')
      .slice(0, -2);
  expect(lines({})).toEqual([]);
  expect(lines({ verification: { ...verification, remaining: '0' } })).toEqual([]);
  expect(lines({ gaps: '1', window_alarm: 'error', verification })).toEqual([
    'conn_00000001: less than a quarter of the window is left: then the upstream forgets what is missing',
    'conn_00000001: 1 gap, see `wa-replica gaps list`',
    'conn_00000001: the verification of 11-23 03:20 found 2 differences, 0 problems in the ledger;',
    '    see `wa-replica verify`, which mends with --repair',
  ]);
  const failed = {
    ...verification,
    state: 'failed' as const,
    error_kind: 'network',
    error: 'GET /x: ECONNRESET',
  };
  expect(lines({ verification: failed })).toEqual([
    'conn_00000001: the verification of 11-23 03:20 failed: network: GET /x: ECONNRESET',
  ]);
  const ofLedger = { ...verification, remaining: '0', ledger_problems: 1 };
  expect(lines({ window_alarm: 'warn', verification: ofLedger })).toEqual([
    'conn_00000001: less than half of the window is left: then the upstream forgets what is missing',
    'conn_00000001: the verification of 11-23 03:20 found 0 differences, 1 problem in the ledger;',
    '    see `wa-replica verify`, which mends with --repair',
  ]);
  // With what is removed nothing can be compared any more; what is in the quarantine can be discarded.
  expect(lines({ state: 'removed', verification, quarantined: '1' })).toEqual([
    'conn_00000001: 1 in quarantine, see `wa-replica quarantine list`',
  ]);
});

test('what joins letters and emoji stays, what moves the cursor or turns a line around does not', () => {
  expect(printable('👩\u200D💻 می\u200Cخواهم')).toBe('👩\u200D💻 می\u200Cخواهم');
  const scotland = '🏴\u{E0067}\u{E0062}\u{E0073}\u{E0063}\u{E0074}\u{E007F}';
  expect(printable(scotland)).toBe(scotland);
  expect(printable('a\u001B[2J\u202Eb\nc')).toBe('a\uFFFD[2J\uFFFDb\uFFFDc');
});
