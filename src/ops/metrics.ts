import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { MediaListener } from '../media/events.ts';
import type { Kind, Outcome } from '../model.ts';
import type { PoolUse } from '../store/database.ts';
import type { FeedReport } from '../store/feed.ts';
import type { MediaCounts } from '../store/media-report.ts';
import type { Listener } from '../sync/events.ts';
import { VERSION } from '../version.ts';
import { WEBHOOK_OUTCOMES, type WebhookOutcome } from './http/webhook.ts';
import { createMediaMetrics } from './media-metrics.ts';
import type { StatusReport } from './status.ts';

/** What is asked at each scrape, and not counted as it happens. */
export interface Sample {
  /** Where the connections stand; undefined while the database is out of reach. */
  readonly report: StatusReport | undefined;
  /** The change feed and its consumers; undefined while the database is out of reach. */
  readonly feed?: FeedReport | undefined;
  /** The attachments; undefined while the database is out of reach, and with MEDIA_STORE=off. */
  readonly media?: readonly MediaCounts[] | undefined;
  readonly leases: number;
  /** Keys of which it is not known what they list. */
  readonly keysFailing: number;
  /** How each pool of connections to Postgres is used, by name. */
  readonly pools: Readonly<Record<string, PoolUse>>;
}

export interface Metrics {
  readonly listen: Listener;
  readonly listenToMedia: MediaListener;
  /** Counts a request to the webhook's route. */
  readonly countWebhook: (outcome: WebhookOutcome) => void;
  /** The metrics in Prometheus' text form. */
  render(sample: Sample): Promise<string>;
  readonly contentType: string;
}

export interface MetricsOptions {
  /** Whether to have series per connection; off for thousands of them. */
  readonly perConnection: boolean;
  /** CHANGES_RETENTION, in milliseconds. */
  readonly retention: number;
}

/** The daemon's metrics, in a registry of their own. */
export function createMetrics({ perConnection, retention }: MetricsOptions): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const pages = new Counter({
    name: 'wa_replica_pages_total',
    help: 'Pages taken, empty ones too.',
    registers,
  });
  const rows = new Counter({
    name: 'wa_replica_rows_total',
    help: 'Records by kind (message, conversation, contact, participant) and outcome (inserted, updated, amended, unchanged, stale, quarantined).',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  });
  const suppressed = new Counter({
    name: 'wa_replica_suppressed_total',
    help: 'Records that came and were not written, by reason (erased: of somebody who was erased; expired: older than RETAIN_MESSAGES).',
    labelNames: ['reason'] as const,
    registers,
  });
  for (const reason of ['erased', 'expired']) suppressed.inc({ reason }, 0);
  const requests = new Histogram({
    name: 'wa_replica_request_duration_seconds',
    help: 'Time from a sync request to its checked page, in seconds.',
    buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });
  const applies = new Histogram({
    name: 'wa_replica_apply_duration_seconds',
    help: 'Time to write a page, commit included, in seconds.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  const errors = new Counter({
    name: 'wa_replica_errors_total',
    help: 'Turns of a connection that failed, by kind of error.',
    labelNames: ['kind'] as const,
    registers,
  });
  const webhooks = new Counter({
    name: 'wa_replica_webhooks_total',
    help: 'Requests to the webhook by outcome (accepted, refused: not signed, too_large, failed: to be sent again).',
    labelNames: ['outcome'] as const,
    registers,
  });
  // From 0 on, so that the first refusal is an increase too.
  for (const outcome of WEBHOOK_OUTCOMES) webhooks.inc({ outcome }, 0);
  const media = createMediaMetrics(registry);
  const plain = (name: string, help: string) => new Gauge({ name, help, registers });
  const labelled = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ['connection_id'] as const, registers });
  const build = new Gauge({
    name: 'wa_replica_build_info',
    help: 'Always 1; its label tells the version.',
    labelNames: ['version'] as const,
    registers,
  });
  build.set({ version: VERSION }, 1);
  const leased = plain('wa_replica_leases', 'Connections that this worker holds.');
  const keys = plain('wa_replica_keys_failing', 'Keys whose last look-up of connections failed.');
  const reached = plain('wa_replica_database_up', '1 where the database answered this scrape, else 0.');
  const pools = new Gauge({
    name: 'wa_replica_db_connections',
    help: 'Connections to Postgres by pool and state (busy, idle); waiting: pieces of work that wait for one.',
    labelNames: ['pool', 'state'] as const,
    registers,
  });
  const lag = labelled('wa_replica_lag_seconds', 'Time since nothing more was to fetch, in seconds.');
  const left = labelled(
    'wa_replica_window_left_seconds',
    'Time before the upstream forgets what is missing, in seconds.',
  );
  const quarantined = labelled('wa_replica_quarantined', 'Open entries of the quarantine.');
  // Over all connections: what alerts need where there are no series per connection.
  const worstLag = plain('wa_replica_max_lag_seconds', 'The greatest lag of a connection, in seconds.');
  const worstLeft = plain(
    'wa_replica_min_window_left_seconds',
    'The least of what any connection has left before the upstream forgets, in seconds.',
  );
  const allQuarantined = plain(
    'wa_replica_quarantine_records',
    'Open entries of the quarantine, of all connections.',
  );
  const gaps = labelled('wa_replica_gaps', 'Gaps that nobody has acknowledged.');
  const drift = labelled(
    'wa_replica_verify_drift',
    'Records that differed at the last verification and were not mended, and problems in the ledger.',
  );
  const age = labelled(
    'wa_replica_verify_age_seconds',
    'Time since the last verification ended, in seconds.',
  );
  const allGaps = plain('wa_replica_open_gaps', 'Gaps that nobody has acknowledged, of all connections.');
  const allDrift = plain('wa_replica_verify_drift_records', 'The drift of all connections.');
  const worstAge = plain(
    'wa_replica_verify_max_age_seconds',
    'Time since the verification that is longest ago, in seconds; connections that never had one are left out.',
  );
  const alarms = new Gauge({
    name: 'wa_replica_window_alarms',
    help: 'Connections with less than half (warn) or a quarter (error) of the window left.',
    labelNames: ['step'] as const,
    registers,
  });
  const feedSize = plain('wa_replica_changes', 'Changes that the feed keeps.');
  const consumed = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ['consumer'] as const, registers });
  const pending = consumed('wa_replica_changes_pending', 'Changes that a consumer has not acknowledged.');
  const behind = consumed(
    'wa_replica_changes_lag_seconds',
    'Age of the oldest change that a consumer has not acknowledged, in seconds.',
  );
  const beforePruned = consumed(
    'wa_replica_changes_left_seconds',
    'Time before the oldest change that a consumer has not acknowledged is pruned, in seconds.',
  );
  const late = consumed(
    'wa_replica_changes_late_connections',
    'Connections of which a consumer comes too late: changes that it has not read are gone.',
  );
  const states = new Gauge({
    name: 'wa_replica_connections',
    help: 'Known connections by state.',
    labelNames: ['state'] as const,
    registers,
  });
  return {
    contentType: registry.contentType,
    countWebhook: (outcome) => webhooks.inc({ outcome }),
    listenToMedia: media.listen,
    listen(event) {
      if (event.type === 'failed') errors.inc({ kind: event.error.kind });
      if (event.type !== 'page') return;
      pages.inc();
      requests.observe(event.requestTook / 1000);
      applies.observe(event.applyTook / 1000);
      for (const [kind, tally] of Object.entries(event.tally) as [Kind, Record<Outcome, number>][]) {
        for (const [outcome, count] of Object.entries(tally))
          if (count > 0) rows.inc({ kind, outcome }, count);
      }
      for (const [kind, count] of Object.entries(event.rejected))
        rows.inc({ kind, outcome: 'quarantined' }, count ?? 0);
      for (const [reason, count] of Object.entries(event.suppressed))
        if (count > 0) suppressed.inc({ reason }, count);
    },
    async render({ report, feed, media: attachments, leases, keysFailing, pools: use }) {
      media.set(attachments);
      leased.set(leases);
      keys.set(keysFailing);
      reached.set(report === undefined ? 0 : 1);
      for (const [pool, states] of Object.entries(use)) {
        for (const [state, count] of Object.entries(states)) pools.set({ pool, state }, count);
      }
      for (const gauge of [lag, left, quarantined, gaps, drift, age, alarms, states]) gauge.reset();
      for (const gauge of [pending, behind, beforePruned, late]) gauge.reset();
      if (feed === undefined) feedSize.remove();
      else feedSize.set(feed.kept);
      for (const one of feed?.consumers ?? []) {
        pending.set({ consumer: one.consumer }, one.pending);
        behind.set({ consumer: one.consumer }, one.lag);
        beforePruned.set({ consumer: one.consumer }, Math.max(0, retention / 1000 - one.lag));
        late.set({ consumer: one.consumer }, one.late);
      }
      // What is not known has no value; 0 would be one.
      for (const gauge of [worstLag, worstLeft, worstAge, allQuarantined, allGaps, allDrift]) gauge.remove();
      if (report !== undefined) {
        for (const gauge of [allQuarantined, allGaps, allDrift]) gauge.set(0);
        for (const step of ['warn', 'error']) alarms.set({ step }, 0);
      }
      const ages: number[] = [];
      for (const connection of report?.connections ?? []) {
        states.inc({ state: connection.state });
        // Nobody can mend anything of it any more.
        if (connection.state === 'removed') continue;
        const { connection_id, verification, window_alarm: step } = connection;
        const differing = Number(verification?.remaining ?? 0) + (verification?.ledger_problems ?? 0);
        allQuarantined.inc(Number(connection.quarantined));
        allGaps.inc(Number(connection.gaps));
        allDrift.inc(differing);
        if (step !== null) alarms.inc({ step });
        const since = verification && (Date.now() - Date.parse(verification.finished_at)) / 1000;
        if (since !== null) ages.push(since);
        if (!perConnection) continue;
        gaps.set({ connection_id }, Number(connection.gaps));
        if (since !== null) {
          drift.set({ connection_id }, differing);
          age.set({ connection_id }, since);
        }
        lag.set({ connection_id }, connection.lag_seconds);
        left.set({ connection_id }, connection.window_left_seconds);
        quarantined.set({ connection_id }, Number(connection.quarantined));
      }
      const alive = (report?.connections ?? []).filter(({ state }) => state !== 'removed');
      if (alive.length > 0) {
        worstLag.set(Math.max(...alive.map((one) => one.lag_seconds)));
        worstLeft.set(Math.min(...alive.map((one) => one.window_left_seconds)));
      }
      if (ages.length > 0) worstAge.set(Math.max(...ages));
      return await registry.metrics();
    },
  };
}
