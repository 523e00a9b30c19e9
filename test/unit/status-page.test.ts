import { describe, expect, test } from 'vitest';
import { renderOutage, renderPage } from '../../src/ops/http/page.ts';
import type { StatusReport } from '../../src/ops/status.ts';
import type { Activity } from '../../src/store/activity.ts';
import type { ConnectionStatus } from '../../src/store/status.ts';
import { REPORT } from './every-event.ts';

const CALM: ConnectionStatus = { ...REPORT.connections[0]!, worker: 'w' };
const LAG = 300_000;

interface Page {
  readonly headline: string;
  readonly alarm: boolean;
  readonly cards: readonly string[];
  readonly html: string;
}

/** The page of connections that are as {@link CALM}, but for this. */
function pageOf(
  connections: readonly Partial<ConnectionStatus>[],
  { workers = REPORT.workers, activity = new Map() as Activity } = {},
): Page {
  const all = connections.map((one, i) => ({ ...CALM, connection_id: `conn_${i}`, ...one }));
  return read(renderPage({ ...REPORT, workers, connections: all }, activity, LAG).html);
}

function read(html: string): Page {
  const [, kind = '', headline = ''] = /<p id="headline" class="(\w+)" role="status">(.*)<\/p>/.exec(html)!;
  expect(html.includes('<title>⚠ wa-replica</title>')).toBe(kind === 'alarm');
  const list = html.slice(html.indexOf('<ul id="connections"'), html.indexOf('</ul>'));
  return { headline, alarm: kind === 'alarm', cards: list.split('<li ').slice(1), html };
}

const verification = (changes: Partial<NonNullable<ConnectionStatus['verification']>>) => ({
  verification: {
    ...CALM.verification!,
    finished_at: new Date(Date.now() - 3 * 3_600_000).toISOString(),
    ...changes,
  },
});

describe('the headline', () => {
  const live = {};
  const late = { lag_seconds: LAG / 1000 + 1 };
  const parked = { state: 'parked' } as const;
  const removed = {
    ...parked,
    state: 'removed',
    gaps: '1',
    window_alarm: 'error',
    lag_seconds: 1e6,
  } as const;
  test.each<[headline: string, alarm: boolean, connections: readonly Partial<ConnectionStatus>[]]>([
    ['No connections are known yet', false, []],
    ['No connections are known yet', false, [removed]],
    ['The connection is live', false, [live]],
    ['The connection is live', false, [live, removed]],
    ['All 2 connections are live', false, [live, live]],
    ['1 of 2 connections live, the others on their way', false, [live, { state: 'catching_up' }]],
    ['1 of 1 connection does not replicate', true, [parked]],
    ['2 of 3 connections do not replicate', true, [live, parked, { state: 'stalled' }]],
    ['All 2 connections are on their way', false, [{ state: 'starting' }, { state: 'catching_up' }]],
    ['The connection is on its way', false, [{ state: 'backing_off', lag_seconds: LAG / 1000 }]],
    ['The connection is on its way', false, [{ state: 'catching_up', lag_seconds: 1e6 }]],
    ['The connection is on its way', false, [{ state: 'starting', lag_seconds: 1e6 }]],
    ['1 of 1 connection does not replicate', true, [{ state: 'backing_off', lag_seconds: LAG / 1000 + 1 }]],
    // Nobody asks for it any more, or not for long: its state is of the last time.
    ['1 of 2 connections does not replicate', true, [{ ...late, worker: null }, live]],
    ['1 of 2 connections does not replicate', true, [late, live]],
    ['All 2 connections are live', false, [{ worker: null }, live]],
    ['1 of 1 connection does not replicate', true, [{ ...late, state: 'catching_up', worker: null }]],
    ['1 of 1 connection has lost messages, or will soon', true, [{ gaps: '1' }]],
    [
      '2 of 3 connections have lost messages, or will soon',
      true,
      [{ gaps: '1' }, { state: 'catching_up', window_alarm: 'error' }, { window_alarm: 'warn' }],
    ],
  ])('%s', (headline, alarm, connections) => {
    expect(pageOf(connections)).toMatchObject({ headline, alarm });
  });

  test('is that nobody replicates, whatever the connections were', () => {
    const headline = 'No worker is alive: nothing is replicated';
    expect(pageOf([live, parked], { workers: [] })).toMatchObject({ headline, alarm: true });
  });

  test('is why there is nothing to show', () => {
    const page = read(renderOutage('the database is out of reach').html);
    expect(page).toMatchObject({ headline: 'Nothing to show: the database is out of reach.', alarm: true });
    expect(page.cards).toEqual([]);
  });
});

test('what there is in all stands below it', () => {
  const facts = (report: Partial<StatusReport>) => {
    const { html } = renderPage({ ...REPORT, ...report }, new Map(), LAG);
    return /<p id="facts">(.*)<\/p>/.exec(html)![1];
  };
  const connections = ['999', '2'].map((quarantined, i) => ({
    ...CALM,
    connection_id: `c${i}`,
    quarantined,
  }));
  expect(facts({ connections, version: '1.2.3', schema_version: '0001_<' })).toBe(
    '1 worker · 1,001 in quarantine · version 1.2.3 · schema 0001_&lt;',
  );
  expect(facts({ workers: [], schema_version: null })).toMatch(/^0 workers · .* · schema –$/);
});

describe('the cards', () => {
  test('of those that need somebody come first, and of those that are live the odd ones', () => {
    const { cards } = pageOf([
      ...[{ state: 'removed' }, { connection_id: 'z' }, { connection_id: 'y' }, { state: 'starting' }],
      ...[{ connection_id: 'zz', quarantined: '1' }, { state: 'catching_up' }, { state: 'backing_off' }],
      ...[{ state: 'parked' }, { state: 'stalled' }, { connection_id: 'late', lag_seconds: LAG }],
    ] as Partial<ConnectionStatus>[]);
    expect(cards.map((card) => /^class="card ([\w ]+)".*\n<h2>(\w+)/.exec(card)!.slice(1).join(' '))).toEqual(
      [
        ...[
          'stalled odd down conn_8',
          'parked odd down conn_7',
          'live odd down late',
          'backing_off odd conn_6',
          'catching_up odd conn_5',
        ],
        ...['starting odd conn_3', 'live odd zz', 'live fine y', 'live fine z', 'removed fine conn_0'],
      ],
    );
  });

  test.each<[what: string, Partial<ConnectionStatus>, told: string | RegExp]>([
    [
      'a failure that is being retried',
      { last_error_kind: 'upstream', last_error: 'GET /x: HTTP 500', consecutive_failures: 2 },
      '<p class="problem">upstream: GET /x: HTTP 500, 2 failures in a row</p>',
    ],
    [
      'what somebody has to do',
      { last_error_kind: 'not_paired', last_error: 'GET /x: HTTP 409', consecutive_failures: 1 },
      '409, 1 failure in a row<br><strong>pair the WhatsApp account again</strong></p>',
    ],
    [
      'what its code tells of better',
      { last_error_kind: 'database', last_error: 'writing a page: 53100', consecutive_failures: 1 },
      '53100, 1 failure in a row<br><strong>the disk of Postgres is full</strong></p>',
    ],
    ['a gap', { gaps: '1' }, '<p class="problem">1 gap: the upstream forgot'],
    ['the quarantine', { quarantined: '1200' }, '<p class="problem warn">1,200 in quarantine<br>'],
    [
      'a window that closes',
      { window_alarm: 'warn', window_left_seconds: 7_200 },
      '<dd class="warn">2 h 0 min</dd>',
    ],
    [
      'one that is nearly closed',
      { window_alarm: 'error', window_left_seconds: -7_200 },
      '<dd class="alarm">−2 h 0 min</dd>',
    ],
    ['drift', verification({ remaining: '1200' }), '<span class="alarm">3 h ago, 1,200 differ</span>'],
    [
      'a ledger that is not whole',
      verification({ ledger_problems: 1 }),
      '<span class="alarm">3 h ago, the ledger is not whole</span>',
    ],
    [
      'a verification that failed',
      verification({ state: 'failed' }),
      '<span class="warn">3 h ago, failed</span>',
    ],
  ])('tell of %s, and are odd for it', (_, changes, told) => {
    const [card] = pageOf([changes]).cards;
    expect(card).toMatch(/^class="card live odd"/);
    expect(card).toContain(told);
  });

  test('are fine where nothing is amiss, verified or not', () => {
    for (const [one, told] of [
      [verification({}), '3 h ago, whole'],
      [{ verification: null }, 'never'],
    ] as const) {
      const [card] = pageOf([one]).cards;
      expect(card).toMatch(/^class="card live fine"/);
      expect(card).toContain(`<dd>${told}</dd>`);
      expect(card).not.toContain('problem');
    }
  });

  test('of what is removed tell of nothing that hinders it', () => {
    const hindered = { last_error_kind: 'not_found', last_error: 'HTTP 404', worker: null };
    const [card] = pageOf([{ ...hindered, state: 'removed' }]).cards;
    expect(card).toContain('</span>removed</p>');
    expect(card).not.toContain('404');
    expect(card).not.toContain('behind');
    expect(card).not.toContain('window left');
  });

  test.each<[label: string, classes: string, Partial<ConnectionStatus>]>([
    ['live', 'live fine', {}],
    ['live, no worker has it', 'live fine', { worker: null }],
    ['was live, no worker has it', 'live odd down', { worker: null, lag_seconds: LAG }],
    ['was live', 'live odd down', { lag_seconds: LAG }],
    ['needs you', 'parked odd down', { state: 'parked' }],
    ['stalled', 'stalled odd down', { state: 'stalled' }],
    ['retrying', 'backing_off odd', { state: 'backing_off' }],
    ['retrying', 'backing_off odd down', { state: 'backing_off', lag_seconds: LAG }],
    ['catching up', 'catching_up odd', { state: 'catching_up', lag_seconds: LAG }],
    ['removed', 'removed fine', { state: 'removed', worker: null, lag_seconds: LAG }],
  ])('say %s (%s)', (label, classes, status) => {
    const [card] = pageOf([status]).cards;
    expect(card).toContain(`</span>${label}</p>`);
    expect(card).toContain(`class="card ${classes}"`);
    expect(card!.includes('<dt>behind</dt><dd class="alarm">')).toBe(classes.endsWith('down'));
  });

  test('show the last hour, minute by minute', () => {
    const activity = new Map([['conn_0', [0, 1_000, 500]]]);
    const [card] = pageOf([{}], { activity }).cards;
    expect(card).toContain('<polyline points="0,30.0 118,2.0 236,16.0"/>');
    expect(card).toContain('last hour: 1,500 records, peak 1,000/min');
    expect(pageOf([{}]).cards[0]).toContain('last hour: nothing came');
  });

  test('are small where there are many of them', () => {
    const many = (count: number) =>
      pageOf(Array.from({ length: count }, () => ({}))).html.includes('class="many"');
    expect([many(12), many(13)]).toEqual([false, true]);
  });

  test('show texts as texts', () => {
    const [card] = pageOf([
      { connection_id: `<b a="'">&`, last_error_kind: 'upstream', last_error: '<script>' },
    ]).cards;
    expect(card).toContain('<h2>&lt;b a=&quot;&#39;&quot;&gt;&amp;</h2>');
    expect(card).toContain('upstream: &lt;script&gt;, ');
  });
});

test('styles and scripts of its own alone are let in, by a nonce that nobody knows before', () => {
  const nonces = [1, 2].map(() => {
    const { html, headers } = renderPage(REPORT, new Map(), LAG);
    const [, nonce] = /script-src 'nonce-([^']+)'/.exec(headers['content-security-policy']!)!;
    expect(html.split(`nonce="${nonce}"`)).toHaveLength(3);
    expect(headers['content-security-policy']!.split('; ')).toEqual([
      "default-src 'none'",
      `style-src 'nonce-${nonce}'`,
      `script-src 'nonce-${nonce}'`,
      'img-src data:',
      "connect-src 'self'",
      // What `default-src` says nothing of.
      ...["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"],
    ]);
    return nonce;
  });
  expect(nonces[0]).not.toBe(nonces[1]);
});
