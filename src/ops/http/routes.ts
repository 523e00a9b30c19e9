import type { Kysely } from 'kysely';
import { readActivity } from '../../store/activity.ts';
import type { Database } from '../../store/schema.ts';
import { type HealthOptions, overdue, type Readiness, readiness } from '../health.ts';
import type { Metrics } from '../metrics.ts';
import { type ReportOptions, readReport, type StatusReport } from '../status.ts';
import { guarded, isTrusted } from './access.ts';
import { renderPage } from './page.ts';
import type { Reply, Route } from './server.ts';

export interface RouteOptions {
  /** Apart from the page work, so that a look is never in its way. */
  readonly db: Kysely<Database>;
  /** HTTP_AUTH_TOKEN; undefined: this machine alone. */
  readonly token: string | undefined;
  readonly health: HealthOptions;
  readonly metrics: Metrics;
  readonly report: ReportOptions;
  readonly leases: () => number;
}

/** What the daemon serves beside the webhook. */
export function routes(options: RouteOptions): Route[] {
  const { db, token, health, metrics, report, leases } = options;
  const open: Route[] = [
    { method: 'GET', path: '/healthz', answer: () => healthz(health) },
    {
      method: 'GET',
      path: '/readyz',
      answer: async (request) => readyz(await readiness(health), isTrusted(request, token)),
    },
  ];
  const closed: Route[] = [
    { method: 'GET', path: '/status', answer: async () => json(200, await readReport(db, report)) },
    {
      method: 'GET',
      path: '/metrics',
      answer: async () => ({
        status: 200,
        type: metrics.contentType,
        // Without a database the process's own are still worth having.
        body: await metrics.render(await readReport(db, report).catch(() => undefined), leases()),
      }),
    },
    { method: 'GET', path: '/', answer: () => page(db, report) },
  ];
  return [...open, ...closed.map((route) => guarded(route, token))];
}

function healthz(health: HealthOptions): Reply {
  const hung = overdue(health);
  return hung.length === 0
    ? json(200, { status: 'live' })
    : json(503, { status: 'hung', loops: hung.length });
}

function readyz(state: Readiness, trusted: boolean): Reply {
  const { behind, ...summary } = state;
  // Ids and errors are for whoever may see the status.
  return json(
    state.status === 'unready' ? 503 : 200,
    trusted ? state : { ...summary, behind: behind.length },
  );
}

async function page(db: Kysely<Database>, options: ReportOptions): Promise<Reply> {
  let report: StatusReport | undefined;
  let activity = new Map<string, number[]>();
  try {
    report = await readReport(db, options);
    activity = await readActivity(db);
  } catch {
    report = undefined;
  }
  const { html, headers } = renderPage(report, activity);
  return { status: report === undefined ? 503 : 200, type: 'text/html; charset=utf-8', body: html, headers };
}

function json(status: number, value: unknown): Reply {
  return { status, type: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` };
}
