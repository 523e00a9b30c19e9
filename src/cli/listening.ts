import { codeOf, ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { errorFields, type Logger } from '../ops/logger.ts';
import type { Replica } from '../replica/replica.ts';
import { listen, NOT_HEARD } from '../store/notify.ts';

/** Hears what other processes announce, where LISTEN is on. */
export async function listening(replica: Replica, log: Logger, signal: AbortSignal): Promise<void> {
  const { settings, databaseUrl, control, worker } = replica;
  const url = settings.LISTEN_DATABASE_URL ?? databaseUrl;
  if (url === 'off') return;
  let deaf = false;
  const options = {
    url,
    db: control,
    onDue: (ids: readonly ConnectionId[]) => {
      for (const id of ids) worker.wake(id);
    },
    onLeases: () => worker.tendNow(),
    onListening: () => {
      worker.renewNow();
      if (deaf) log.info('NOTIFY is heard again');
      deaf = false;
    },
    onDeaf: (cause: unknown) => {
      deaf = true;
      const error = ReplicaError.from('internal', cause, 'listening');
      const hint = 'behind a pooler in transaction mode, set LISTEN_DATABASE_URL or off';
      const unheard = codeOf(cause) === NOT_HEARD && { hint };
      log.warn(
        { ...errorFields(error), ...unheard },
        'cannot hear NOTIFY: wake-ups come with the next renewal',
      );
    },
  };
  await listen(options, signal);
}
