import type { Kysely } from 'kysely';
import { seldom } from '../../lib/seldom.ts';
import { singleFlight } from '../../lib/single-flight.ts';
import { type Activity, readActivity } from '../../store/activity.ts';
import { readFeed } from '../../store/feed.ts';
import { countMedia } from '../../store/media-report.ts';
import type { Database } from '../../store/schema.ts';
import { type HealthOptions, overdue, type Readiness, readiness } from '../health.ts';
import type { Metrics, Sample } from '../metrics.ts';
import { outageOf } from '../outage.ts';
import { type ReportOptions, readReport, type StatusReport } from '../status.ts';
import { guarded, isTrusted } from './access.ts';
import { renderOutage, renderPage } from './page.ts';
import type { Reply, Route } from './server.ts';

export interface RouteOptions {
  /** Apart from the page work, so that a look is never in its way. */
  readonly db: Kysely<Database>;
  /** HTTP_AUTH_TOKEN; undefined: this machine alone. */
  readonly token: string | undefined;
  readonly health: HealthOptions;
  readonly metrics: Metrics;
  readonly report: ReportOptions;
  /** How far behind the page calls a connection late that has nothing to catch up on, in milliseconds. */
  readonly lateAfter: number;
  /** Whether attachments are kept (MEDIA_STORE). */
  readonly media: boolean;
  readonly leases: () => number;
  /** How the pools of connections to Postgres are used, by name. */
  readonly pools: () => Sample['pools'];
}

/** How often attachments are counted, at most, in milliseconds. */
const MEDIA_COUNTED_EVERY = 30_000;

/** What the daemon serves beside the webhook. */
export function routes(options: RouteOptions): Route[] {
  const { db, token, health, metrics, leases, pools } = options;
  // Many may look at once; Postgres is asked once.
  const report = singleFlight(() => readReport(db, options.report));
  const feed = singleFlight(() => readFeed(db));
  // It reads the whole table, so it is asked for the less often the longer it takes.
  const media = seldom(() => countMedia(db), MEDIA_COUNTED_EVERY);
  const activity = singleFlight(() => readActivity(db));
  const open: Route[] = [
    { method: 'GET', path: '/healthz', answer: () => healthz(health) },
    {
      method: 'GET',
      path: '/readyz',
      answer: async (request) => readyz(await readiness(health), isTrusted(request, token)),
    },
  ];
  const closed: Route[] = [
    { method: 'GET', path: '/status', answer: async () => status(report) },
    {
      method: 'GET',
      path: '/metrics',
      answer: async () => {
        // Without a database the process's own are still worth having. Both at once: each waits for it as long as a
        // time-out lasts.
        const [known, changes, attachments] = await Promise.all([
          report().catch(unknown),
          feed().catch(unknown),
          options.media ? media().catch(unknown) : undefined,
        ]);
        const body = await metrics.render({
          ...{ report: known, feed: changes, media: attachments, leases: leases(), pools: pools() },
          keysFailing: health.keysFailing(),
        });
        return { status: 200, type: metrics.contentType, body };
      },
    },
    { method: 'GET', path: '/', answer: () => page(report, activity, options.lateAfter) },
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
  const { behind, window, ...summary } = state;
  // Ids and errors are for whoever may see the status.
  return json(
    state.status === 'unready' ? 503 : 200,
    trusted ? state : { ...summary, behind: behind.length, window: window.length },
  );
}

async function status(report: () => Promise<StatusReport>): Promise<Reply> {
  try {
    return json(200, await report());
  } catch (error) {
    return json(503, { error: outageOf(error) });
  }
}

async function page(
  report: () => Promise<StatusReport>,
  activity: () => Promise<Activity>,
  lateAfter: number,
): Promise<Reply> {
  const answer = (status: number, { html, headers }: ReturnType<typeof renderPage>) => {
    return { status, type: 'text/html; charset=utf-8', body: html, headers };
  };
  try {
    return answer(200, renderPage(await report(), await activity(), lateAfter));
  } catch (error) {
    return answer(503, renderOutage(outageOf(error)));
  }
}

/** @returns undefined: it is not known during an outage. */
function unknown(error: unknown): undefined {
  outageOf(error);
}

function json(status: number, value: unknown): Reply {
  return { status, type: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` };
}
