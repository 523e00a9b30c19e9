import { codeOf } from '../errors/errors.ts';
import { singleFlight } from '../lib/single-flight.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import { alertSender } from '../ops/alerts.ts';
import type { HealthOptions } from '../ops/health.ts';
import { routes } from '../ops/http/routes.ts';
import { type HttpServer, serve } from '../ops/http/server.ts';
import { webhookRoute } from '../ops/http/webhook.ts';
import type { Logger } from '../ops/logger.ts';
import type { Metrics } from '../ops/metrics.ts';
import { WindowWatch } from '../ops/window-watch.ts';
import type { Replica } from '../replica/replica.ts';
import { poolUse } from '../store/database.ts';
import { schemaVersion } from '../store/migrator.ts';
import { WakeUp } from '../sync/wake-up.ts';
import { CommandFailed } from './terminal.ts';

/** Wires the daemon's HTTP server to the replica: health, status, metrics, page, and the webhook where there is a
 * secret for it.
 * @returns undefined with HTTP_PORT=off.
 * @throws CommandFailed where it cannot listen. */
export async function serveHttp(
  replica: Replica,
  health: HealthOptions,
  metrics: Metrics,
  log: Logger,
): Promise<HttpServer | undefined> {
  const { settings, db: pages, control: leases, looks, worker } = replica;
  const { HTTP_HOST: host, HTTP_PORT: port, HTTP_AUTH_TOKEN: token, WEBHOOK_SECRET: secrets } = settings;
  if (port === 'off') return undefined;
  const all = routes({
    db: looks,
    token,
    health,
    metrics,
    report: {
      schema: settings.WA_REPLICA_SCHEMA,
      leaseTtl: settings.LEASE_TTL,
      window: settings.RETENTION_WINDOW,
    },
    lateAfter: Math.max(settings.READY_MAX_LAG, 3 * settings.POLL_INTERVAL, 3 * settings.POLL_INTERVAL_IDLE),
    media: settings.MEDIA_STORE !== 'off',
    leases: () => worker.size,
    pools: () => ({ pages: poolUse(pages), leases: poolUse(leases), looks: poolUse(looks) }),
  });
  if (secrets !== undefined) {
    const onEvent = eventHandler(replica);
    all.push(webhookRoute({ secrets, onEvent, count: metrics.countWebhook, log }));
  }
  try {
    const server = await serve(all, { host, port }, log);
    log.info({ host, port: server.port }, 'serving HTTP');
    return server;
  } catch (error) {
    throw new CommandFailed(
      `cannot listen on HTTP_HOST ${host}, HTTP_PORT ${port} (${codeOf(error)}): set another, or HTTP_PORT=off`,
    );
  }
}

/** How the health of this process is judged.
 * @param begun whether it knows its connections and has looked for leases. */
export function healthOptions(
  { settings, looks, worker, discovery }: Replica,
  begun: () => boolean,
  window: WindowWatch,
): HealthOptions {
  const { REQUEST_TIMEOUT, LEASE_TTL, READY_MAX_LAG, WA_REPLICA_SCHEMA } = settings;
  return {
    loops: () => worker.health,
    // A statement may take as long as a request: neither is a hang.
    overdueAfter: 3 * Math.max(REQUEST_TIMEOUT, LEASE_TTL),
    maxLag: READY_MAX_LAG,
    begun,
    alarms: () => window.alarms,
    keysFailing: () => discovery.keysFailing,
    // Anyone may ask; it is answered to all who ask at once.
    migrated: singleFlight(async () => {
      const { pending, unknown } = await schemaVersion(looks, WA_REPLICA_SCHEMA);
      return pending.length + unknown.length === 0;
    }),
  };
}

/** Watches what the upstream is about to forget, and sends alerts where there is somebody to send them to. */
export function windowWatch({ settings, looks, control, worker }: Replica, log: Logger): WindowWatch {
  const { ALERT_WEBHOOK_URL: url, ALERT_WEBHOOK_SECRET: secret, RETENTION_WINDOW: window } = settings;
  return new WindowWatch({
    looks,
    control,
    workerId: worker.id,
    window,
    send: url === undefined ? undefined : alertSender({ url, secret }),
    log,
  });
}

function eventHandler({
  control,
  worker,
  directory,
}: Replica): (id: ConnectionId | undefined) => Promise<void> {
  const wakeUp = new WakeUp(control, worker);
  return async (id) => {
    const { connections } = directory;
    // A connection without a name has one in its events. Another worker may know one that is not known here yet.
    if (connections.length === 1 && connections[0] === UNNAMED_CONNECTION) await wakeUp.wake(connections);
    else if (id !== undefined) await wakeUp.wake([id]);
  };
}
