import type { Kysely } from 'kysely';
import { schedule } from 'node-cron';
import type { Database } from '../store/schema.ts';
import { forgetDeadWorkers } from '../store/workers.ts';
import { errorFields, type Logger } from './logger.ts';

export interface Upkeep {
  stop(): Promise<void>;
}

/** Hourly, at a minute that few others use. */
const HOURLY = '23 * * * *';
/** Dead workers stay in the list this long, for whoever looks into what happened. */
const KEEP_DEAD_WORKERS_DAYS = 7;

/** Keeps the replica's own tables small, on a schedule (UTC). A run that fails is told of and made up by the next. */
export function startUpkeep(db: Kysely<Database>, log: Logger): Upkeep {
  const task = schedule(
    HOURLY,
    async () => {
      try {
        const workers = await forgetDeadWorkers(db, KEEP_DEAD_WORKERS_DAYS);
        if (workers > 0) log.info({ workers }, 'dead workers forgotten');
      } catch (error) {
        log.warn(errorFields(error), 'upkeep failed');
      }
    },
    { timezone: 'UTC', noOverlap: true, name: 'upkeep' },
  );
  return {
    async stop() {
      await task.destroy();
    },
  };
}
