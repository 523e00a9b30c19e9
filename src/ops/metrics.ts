import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Kind, Outcome } from '../model.ts';
import type { Listener } from '../sync/events.ts';
import type { StatusReport } from './status.ts';

export interface Metrics {
  readonly listen: Listener;
  /** The metrics in Prometheus' text form.
   * @param report where the connections stand; undefined while the database is out of reach. */
  render(report: StatusReport | undefined, leases: number): Promise<string>;
  readonly contentType: string;
}

/** @param perConnection whether to have series per connection; off for thousands of them. */
export function createMetrics(perConnection: boolean): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const pages = new Counter({ name: 'wa_replica_pages_total', help: 'Pages written.', registers });
  const rows = new Counter({
    name: 'wa_replica_rows_total',
    help: 'Records by kind (message, conversation, contact) and what became of them.',
    labelNames: ['kind', 'outcome'] as const,
    registers,
  });
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
    help: 'Turns that failed, by kind of error.',
    labelNames: ['kind'] as const,
    registers,
  });
  const leased = new Gauge({
    name: 'wa_replica_leases',
    help: 'Connections that this worker holds.',
    registers,
  });
  const labelled = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ['connection_id'] as const, registers });
  const lag = labelled('wa_replica_lag_seconds', 'Time since nothing more was to fetch, in seconds.');
  const left = labelled(
    'wa_replica_window_left_seconds',
    'Time before the upstream forgets what is missing, in seconds.',
  );
  const quarantined = labelled('wa_replica_quarantined', 'Open entries of the quarantine.');
  const states = new Gauge({
    name: 'wa_replica_connections',
    help: 'Known connections by state.',
    labelNames: ['state'] as const,
    registers,
  });
  return {
    contentType: registry.contentType,
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
    },
    async render(report, leases) {
      leased.set(leases);
      for (const gauge of [lag, left, quarantined, states]) gauge.reset();
      for (const connection of report?.connections ?? []) {
        states.inc({ state: connection.state });
        if (!perConnection || connection.state === 'removed') continue;
        const { connection_id } = connection;
        lag.set({ connection_id }, connection.lag_seconds);
        left.set({ connection_id }, connection.window_left_seconds);
        quarantined.set({ connection_id }, Number(connection.quarantined));
      }
      return await registry.metrics();
    },
  };
}
