import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { remedy } from '../../src/errors/remedies.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { ConnectionState } from '../../src/store/status.ts';
import { type CliProcess, startCli } from '../support/cli.ts';
import { httpOf } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { ask, readiness } from '../support/http.ts';
import { type MediaFolder, mediaFolder } from '../support/media.ts';
import { type MetricFamily, parseMetrics } from '../support/prometheus.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
const read = (file: string) => readFileSync(path.join(DEPLOY, file), 'utf8');
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly description: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets: readonly { readonly expr: string }[];
}

const { groups } = parse(read('prometheus/alerts.yml')) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(read('grafana/dashboard.json')) as {
  uid: string;
  panels: Panel[];
  templating: { list: { name: string; definition?: string }[] };
};
const expressions = [
  ...rules.map(({ alert, expr }) => [`alert ${alert}`, expr]),
  ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [`panel ${title}`, expr])),
  ...dashboard.templating.list.flatMap(({ name, definition }) =>
    definition === undefined ? [] : [[`variable ${name}`, definition]],
  ),
] as [string, string][];

/** The series' names in an expression, and the labels that are asked of each or grouped by. */
function namesIn(expr: string): { metrics: string[]; labels: string[] } {
  const metrics = [...expr.matchAll(/\b(?:wa_replica|process|nodejs)_\w+/g)].map(([name]) => name);
  const matchers = [...expr.matchAll(/\{([^}]*)\}/g)].flatMap(([, inner = '']) => [
    ...inner.matchAll(/(\w+)\s*[=!]/g),
  ]);
  const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, inner = '']) => [
    ...inner.matchAll(/(\w+)/g),
  ]);
  return { metrics, labels: [...matchers, ...grouped].map(([, label = '']) => label) };
}

let simulator: Simulator;
let daemon: CliProcess;
let archive: MediaFolder;
const database = useTestDatabase();
let families: Map<string, MetricFamily>;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 100, connections: 2 });
  simulator.faults.script({ kind: 'bad_gateway' }, 1, { route: 'sync' });
  simulator.faults.script({ kind: 'internal' }, 1, { route: 'media' });
  archive = mediaFolder();
  const settings = { HTTP_PORT: '0', MEDIA_STORE: archive.url };
  daemon = startCli(['run'], { ...quickSettings(database.url, simulator.url), ...settings });
  const base = await httpOf(daemon);
  await readiness(base, { status: 200, says: '"current":2' });
  await database.query(`select whatsapp.register_consumer('crm')`);
  await waitFor(() => simulator.faults.scripted === 0, { what: 'the fault' });
  const metrics = await waitFor(
    async () => {
      const { body } = await ask(`${base}/metrics`);
      return body.includes('wa_replica_media_errors_total{') ? body : undefined;
    },
    { what: 'an attachment that fails' },
  );
  families = parseMetrics(metrics);
});
afterAll(async () => {
  await daemon.kill('SIGKILL');
  await simulator.close();
  archive.remove();
});

describe('the alerts', () => {
  test('are those that a person needs', () => {
    expect(rules.map(({ alert, labels }) => [alert, labels.severity])).toEqual([
      ['WaReplicaDown', 'critical'],
      ['WaReplicaDatabaseUnreachable', 'critical'],
      ['WaReplicaNotSyncing', 'warning'],
      ['WaReplicaWindowUnderHalf', 'warning'],
      ['WaReplicaWindowUnderQuarter', 'critical'],
      ['WaReplicaParked', 'warning'],
      ['WaReplicaKeyFailing', 'warning'],
      ['WaReplicaQuarantineGrowing', 'warning'],
      ['WaReplicaGap', 'critical'],
      ['WaReplicaDrift', 'warning'],
      ['WaReplicaAttachmentsLate', 'warning'],
      ['WaReplicaConsumerBehind', 'warning'],
      ['WaReplicaConsumerTooLate', 'critical'],
    ]);
    for (const { alert, annotations, for: wait } of rules) {
      expect([alert, /^\d+m$/.test(wait)]).toEqual([alert, true]);
      expect(Object.keys(annotations)).toEqual(['summary', 'description']);
    }
  });

  test('work without series per connection', () => {
    for (const { alert, expr } of rules)
      expect([alert, expr.includes('connection_id')]).toEqual([alert, false]);
  });

  test.skipIf(!hasPromtool)(
    'are what promtool takes, and fire when they should (skipped without promtool)',
    () => {
      for (const args of [
        ['check', 'rules', 'alerts.yml'],
        ['test', 'rules', 'alerts.test.yml'],
      ]) {
        const { status, stdout, stderr } = spawnSync('promtool', args, {
          cwd: path.join(DEPLOY, 'prometheus'),
          encoding: 'utf8',
        });
        expect({ status, output: stdout + stderr }).toMatchObject({ status: 0 });
      }
    },
  );

  test('are tested, each of them', () => {
    const tests = parse(read('prometheus/alerts.test.yml')) as {
      tests: { alert_rule_test: { alertname: string; exp_alerts?: unknown[] }[] }[];
    };
    const fired = tests.tests.flatMap((one) => one.alert_rule_test.filter((it) => it.exp_alerts));
    expect([...new Set(fired.map(({ alertname }) => alertname))].sort()).toEqual(
      rules.map(({ alert }) => alert).sort(),
    );
  });
});

test('Prometheus scrapes with the token, and reads the rules', () => {
  const config = parse(read('prometheus/prometheus.yml')) as {
    rule_files: string[];
    scrape_configs: { job_name: string; authorization: { credentials_file: string } }[];
  };
  expect(config.rule_files).toEqual(['alerts.yml']);
  expect(config.scrape_configs).toMatchObject([
    { job_name: 'wa-replica', authorization: { credentials_file: '/run/secrets/http_auth_token' } },
  ]);
});

test.each(expressions)('%s names only what /metrics has', (_, expr) => {
  const { metrics, labels } = namesIn(expr);
  for (const name of metrics) {
    const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
    expect([name, family === undefined]).toEqual([name, false]);
    expect(family?.help).not.toBe('');
  }
  const series = metrics.flatMap((name) => [
    ...((families.get(name) ?? families.get(name.replace(/_bucket$/, '')))?.values.keys() ?? []),
  ]);
  // What Prometheus adds itself.
  for (const label of labels.filter((one) => !['job', 'instance'].includes(one))) {
    expect([label, series.some((one) => one.includes(`${label}="`))]).toEqual([label, true]);
  }
  expect(metrics.length > 0 || expr.includes('up{')).toBe(true);
});

test('states that are asked for are states of a connection', () => {
  const states: Record<ConnectionState, true> = {
    starting: true,
    catching_up: true,
    live: true,
    backing_off: true,
    parked: true,
    stalled: true,
    removed: true,
  };
  const asked = expressions.flatMap(([name, expr]) =>
    [...expr.matchAll(/\bstate=~?"([^"]*)"/g)].map(([, values = '']) => [name, values.split('|')] as const),
  );
  expect(asked.length).toBeGreaterThan(2);
  for (const [name, values] of asked)
    for (const value of values)
      expect([name, Object.keys(states)]).toEqual([name, expect.arrayContaining([value])]);
});

describe('the dashboard', () => {
  test('shows every metric of ours', () => {
    const shown = expressions.flatMap(([name, expr]) =>
      name.startsWith('panel') ? namesIn(expr).metrics : [],
    );
    const ours = [...families.keys()].filter((name) => name.startsWith('wa_replica_'));
    const left = ours.filter((name) => !shown.some((one) => one.replace(/_bucket$/, '') === name));
    // Per connection there is the total; the version is for whoever looks; an outage and a failing key have their alerts.
    expect(left).toEqual([
      ...[
        'wa_replica_build_info',
        'wa_replica_keys_failing',
        'wa_replica_database_up',
        'wa_replica_quarantined',
      ],
      ...['wa_replica_gaps', 'wa_replica_verify_drift', 'wa_replica_verify_age_seconds'],
    ]);
  });

  test('is laid out without gaps that overlap, and explains each panel', () => {
    const cells = new Set<string>();
    for (const { title, description, gridPos } of dashboard.panels) {
      expect([title, description.endsWith('.')]).toEqual([title, true]);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect([title, x < 24 && !cells.has(`${x} ${y}`)]).toEqual([title, true]);
          cells.add(`${x} ${y}`);
        }
      }
    }
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length);
  });

  test.skipIf(!hasPromtool)('asks what PromQL is (skipped without promtool)', () => {
    const asked = expressions.filter(([name]) => name.startsWith('panel'));
    const rules = asked.map(([, expr], i) => ({
      record: `panel:${i}`,
      expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$job', 'j').replaceAll('$connection', '.*'),
    }));
    const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-rules-'));
    writeFileSync(path.join(folder, 'rules.yml'), stringify({ groups: [{ name: 'panels', rules }] }));
    const { status, stderr } = spawnSync('promtool', ['check', 'rules', 'rules.yml'], {
      cwd: folder,
      encoding: 'utf8',
    });
    rmSync(folder, { recursive: true });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('is provisioned where compose mounts it, with the data source it asks', () => {
    const sources = parse(read('grafana/provisioning/datasources/prometheus.yml')) as {
      datasources: { type: string; uid: string }[];
    };
    expect(sources.datasources).toMatchObject([{ type: 'prometheus', uid: 'prometheus' }]);
    const boards = parse(read('grafana/provisioning/dashboards/wa-replica.yml')) as {
      providers: { options: { path: string } }[];
    };
    expect(boards.providers).toMatchObject([{ options: { path: '/var/lib/grafana/dashboards' } }]);
    expect(dashboard.uid).toBe('wa-replica');
  });
});

test('what the alerts call parked has a remedy', () => {
  for (const kind of [
    'unauthorized',
    'payment_required',
    'not_found',
    'not_paired',
    'bad_request',
    'stalled',
  ]) {
    expect(remedy(kind)).toBeDefined();
  }
});
