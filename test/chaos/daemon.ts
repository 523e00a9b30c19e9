/**
 * The real daemon, as `wa-replica run` puts it together, which signals itself when a crash point comes up: with
 * SIGKILL it dies there, with SIGSTOP it freezes there. `node daemon.ts [POINT NTH SIGNAL]`, settings as ever.
 */
import { run } from '../../src/cli/run.ts';
import { loadSettings } from '../../src/config/load.ts';
import { ReplicaError } from '../../src/errors/errors.ts';
import { eventLog } from '../../src/ops/event-log.ts';
import { createLogger, errorFields } from '../../src/ops/logger.ts';
import { assemble } from '../../src/replica/replica.ts';
import type { CrashPoint } from '../../src/sync/crash-points.ts';

const [point, nth = '1', signal = 'SIGKILL'] = process.argv.slice(2);

let left = Number(nth);
const reached = (at: CrashPoint) => {
  if (at === point && --left === 0) process.kill(process.pid, signal);
};

const stopping = new AbortController();
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    if (stopping.signal.aborted) process.exit(1);
    stopping.abort(new DOMException(`${name} received`, 'AbortError'));
  });
}

const { settings } = loadSettings(process.env, { database: true, upstream: true });
const log = createLogger({ level: settings.LOG_LEVEL, format: 'json', stream: process.stderr });
const replica = assemble({
  settings,
  env: process.env,
  listen: eventLog(log),
  onIdleError: (error) => log.debug(errorFields(error), 'an idle connection to Postgres ended'),
  reached,
});
let status = 0;
try {
  await run(replica, log, stopping.signal);
} catch (error) {
  log.error(errorFields(error), error instanceof ReplicaError ? 'failed' : 'internal error');
  status = 1;
} finally {
  await replica.close();
}
process.exitCode = status;
setTimeout(() => process.exit(status), 200).unref();
