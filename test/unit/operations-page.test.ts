import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { type ErrorKind, ReplicaError } from '../../src/errors/errors.ts';
import { eventLog } from '../../src/ops/event-log.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { mediaLog } from '../../src/ops/media-log.ts';
import { createMetrics } from '../../src/ops/metrics.ts';
import type { ConnectionState } from '../../src/store/status.ts';
import { emptyCounts } from '../../src/store/verifications.ts';
import { parseMetrics } from '../support/prometheus.ts';
import { EVENTS, MEDIA_EVENTS, REPORT } from './every-event.ts';

/* docs/operations.md says what the program does: every table of it is held against the program. */

const ROOT = path.join(import.meta.dirname, '../..');
const PAGE = readFileSync(path.join(ROOT, 'docs/operations.md'), 'utf8');

/** The rows of the table with these words in its head, cell by cell. */
function table(head: string): string[][] {
  const rows = PAGE.slice(PAGE.indexOf(`\n| ${head} |`) + 1)
    .split('\n\n')[0]!
    .split('\n');
  const cells = rows.map((row) => row.split('|').slice(1, -1));
  return cells.slice(2).map((row) => row.map((cell) => cell.trim()));
}

/** The texts in backquotes of a cell. */
const codes = (cell = '') => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
const nameIn = (row: string[]) => codes(row[0])[0]!;

/** What an error brings into a line. */
const ERROR_FIELDS = ['kind', 'error', 'hint', 'at'];

/** The lines that the events make. */
function linesOfEvents(): Record<string, unknown>[] {
  let text = '';
  const stream = new Writable({
    write(chunk, _, done) {
      text += chunk;
      done();
    },
  });
  const log = createLogger({ level: 'debug', format: 'json', stream });
  const [listen, listenToMedia] = [eventLog(log), mediaLog(log)];
  for (const event of Object.values(EVENTS).flat()) listen(event);
  for (const event of Object.values(MEDIA_EVENTS).flat()) listenToMedia(event);
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The messages that a source text logs, by its calls of `log`. */
function messagesIn(source: string): { calls: number; messages: string[] } {
  const call = String.raw`\blog(?:\.(?:debug|info|warn|error|fatal)|\[[^\]]+\])\(`;
  const text = String.raw`('[^'\n]+'|"[^"\n]+")`;
  const whole = new RegExp(String.raw`${call}[\s\S]*?(?:\? ${text} : )?${text},?\s*\)`, 'g');
  const found = [...source.matchAll(whole)];
  const messages = found.flatMap(([, either, or]) => [either, or].filter((one) => one !== undefined));
  return {
    calls: [...source.matchAll(new RegExp(call, 'g'))].length - found.length,
    messages: messages.map((message) => message.slice(1, -1)),
  };
}

describe('the log', () => {
  const rows = new Map(table('msg | level | fields | when').map((row) => [nameIn(row), row]));

  test('of the events has the levels and the fields that the page names', () => {
    const seen = new Map<string, Set<string>>();
    for (const { level, time: _, msg, ...fields } of linesOfEvents()) {
      const [, levels = '', named = ''] = rows.get(String(msg)) ?? [];
      expect([msg, levels.split(', ')]).toEqual([msg, expect.arrayContaining([level])]);
      const known = [...codes(named), ...(named.includes('the error') ? ERROR_FIELDS : [])];
      expect([msg, Object.keys(fields).filter((name) => !known.includes(name))]).toEqual([msg, []]);
      const all = seen.get(String(msg)) ?? new Set();
      seen.set(String(msg), all);
      for (const name of [...Object.keys(fields), `level ${level}`]) all.add(name);
    }
    for (const [msg, names] of seen) {
      const [, levels = '', fields = ''] = rows.get(msg)!;
      const named = [...codes(fields), ...levels.split(', ').map((level) => `level ${level}`)];
      expect([msg, named.filter((name) => !names.has(name))]).toEqual([msg, []]);
    }
  });

  test('has the messages that the page names, and no other', () => {
    const files = readdirSync(path.join(ROOT, 'src'), { recursive: true, encoding: 'utf8' });
    const messages = new Set<string>();
    for (const file of files.filter((name) => name.endsWith('.ts'))) {
      const found = messagesIn(readFileSync(path.join(ROOT, 'src', file), 'utf8'));
      // A call whose message is not a plain text here would be in no list.
      expect([file, found.calls]).toEqual([file, 0]);
      for (const message of found.messages) messages.add(message);
    }
    expect([...rows.keys()].sort()).toEqual([...messages].sort());
  });

  test('is read from the sources as it is written', () => {
    const source = `
      log.info('one');
      log[many ? 'warn' : 'info']({ a: f(x), b }, many ? 'two' : "three's");
      (error) => log.debug(\n  { ...errorFields(error),\n hint: 'no' },\n  'four',\n),
      log.warn(fields, message);
    `;
    expect(messagesIn(source)).toEqual({ calls: 1, messages: ['one', 'two', "three's", 'four'] });
  });
});

test('the metrics are those that are registered, with their types and labels', async () => {
  const metrics = createMetrics({ perConnection: true, retention: 1_000 });
  for (const event of Object.values(EVENTS).flat()) metrics.listen(event);
  for (const event of Object.values(MEDIA_EVENTS).flat()) metrics.listenToMedia(event);
  const pools = { pages: { busy: 0, idle: 0, waiting: 0 } };
  const feed = { kept: 1, consumers: [{ consumer: 'crm', pending: 1, lag: 1, late: 0 }] };
  const sample = { report: REPORT, feed, media: [], leases: 1, keysFailing: 0, pools };
  const families = parseMetrics(await metrics.render(sample));
  const registered = [...families]
    .filter(([name]) => name.startsWith('wa_replica_'))
    .map(([name, { type, values }]) => {
      const labels = [...values.keys()].flatMap((series) => [...series.matchAll(/(\w+)="/g)]);
      const names = new Set(labels.map((match) => match[1]!));
      names.delete('le');
      return [name, type, [...names].sort()];
    });
  const documented = table('metric | type | labels | unit |').map((row) => [
    nameIn(row),
    row[1],
    codes(row[2]).sort(),
  ]);
  expect(documented.sort()).toEqual(registered.sort());
  for (const [name = '', , , unit] of table('metric | type | labels | unit |'))
    expect([name, unit === 'seconds']).toEqual([name, name.endsWith('_seconds`')]);
});

test('the fields and the states of the status are those that it has', () => {
  const fieldsOf = (value: unknown, at = ''): string[] => {
    if (Array.isArray(value)) return fieldsOf(value[0], `${at}[]`);
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value).flatMap(([name, child]) => {
      const field = at === '' ? name : `${at}.${name}`;
      return [field, ...fieldsOf(child, field)];
    });
  };
  expect(table('field | type |').map(nameIn)).toEqual(fieldsOf(REPORT));
  const states: Record<ConnectionState, true> = {
    starting: true,
    catching_up: true,
    live: true,
    backing_off: true,
    parked: true,
    stalled: true,
    removed: true,
  };
  expect(table('state | means').map(nameIn)).toEqual(Object.keys(states));
});

test('the findings of a verification are those that there are', () => {
  const [, ...counted] = Object.keys(emptyCounts().message);
  const rows = table('finding | is | do').map(([finding]) => finding!);
  const named = rows.filter((finding) => !finding.startsWith('ledger')).flatMap((finding) => codes(finding));
  expect(named.sort()).toEqual([...counted, 'failed'].sort());
});

test('the kinds of errors are all there, with their verdicts', () => {
  const kinds: Record<ErrorKind, true> = {
    network: true,
    timeout: true,
    rate_limited: true,
    upstream: true,
    not_ready: true,
    protocol: true,
    oversize: true,
    stalled: true,
    database: true,
    media_store: true,
    lease_lost: true,
    crm: true,
    internal: true,
    unauthorized: true,
    payment_required: true,
    not_found: true,
    not_paired: true,
    bad_request: true,
    erasure_key: true,
    database_unfit: true,
    schema_newer: true,
    schema_pending: true,
    migration_failed: true,
  };
  const wanted = Object.keys(kinds).map((kind) => [
    kind,
    new ReplicaError(kind as ErrorKind, { where: 'here' }).verdict,
  ]);
  expect(table('kind | verdict | is | do').map((row) => [nameIn(row), row[1]])).toEqual(wanted);
});

test('the alerts are those that there are', () => {
  const file = readFileSync(path.join(ROOT, 'deploy/prometheus/alerts.yml'), 'utf8');
  const { groups } = parse(file) as { groups: { rules: { alert: string }[] }[] };
  expect(table('alert | do').map(nameIn)).toEqual(
    groups.flatMap(({ rules }) => rules.map(({ alert }) => alert)),
  );
});
