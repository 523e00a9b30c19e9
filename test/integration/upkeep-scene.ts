/** Upkeep of a daily job on connections of two keys, which a test lets go of one by one. */
import { afterEach } from 'vitest';
import { type ConnectionJob, Upkeep, type WorkerJob } from '../../src/ops/upkeep.ts';
import { useTestDatabase } from '../support/database.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';

const KEYS = { a: {}, b: {} };
const IDS = ['a1', 'a2', 'a3', 'b1'];

export class UpkeepScene {
  readonly database = useTestDatabase({ migrated: true });
  readonly #log = logLines();
  #running: Upkeep | undefined;

  /** For the file that makes it. */
  constructor() {
    afterEach(async () => {
      await this.#running?.stop();
      this.#log.empty();
      await this.database.query('truncate whatsapp.upkeep');
    });
  }

  get lines(): readonly Record<string, unknown>[] {
    return this.#log.lines;
  }

  /** Done so many days ago: long enough that a run was missed since, whatever the time of day. */
  readonly missed = (id: string, days: number) =>
    this.database.query(
      `insert into whatsapp.upkeep (connection_id, job, since, done_at)
        values ($1, 'it', now() - interval '90 days', now() - make_interval(days => $2))`,
      [id, days],
    );

  /** Until so many are done. */
  readonly idle = (count: number) =>
    waitFor(
      async () =>
        (await this.database.query(`select from whatsapp.upkeep where done_at > now() - interval '1 minute'`))
          .length === count,
      { what: `${count} to be done` },
    );

  /** Runs the job; each run lasts until it is let go. */
  readonly start = (
    more: Partial<ConnectionJob> = {},
    held: readonly string[] = IDS,
    others: readonly WorkerJob[] = [],
  ) => {
    const begun: string[] = [];
    const open = new Map<string, (done: boolean | Error) => void>();
    const stopping = new AbortController();
    const job: ConnectionJob = {
      name: 'it',
      cron: '17 3 * * *',
      each: 'connection',
      run: (id, signal) => {
        begun.push(id);
        return new Promise<boolean>((resolve, reject) => {
          open.set(id, (done) => (done instanceof Error ? reject(done) : resolve(done)));
          signal.addEventListener('abort', () => resolve(false));
        });
      },
      ...more,
    };
    const upkeep = new Upkeep({
      db: this.database.db,
      jobs: [job, ...others],
      held: () => held,
      groupOf: (id) => KEYS[id[0] as 'a' | 'b'],
      log: this.#log.log,
      signal: stopping.signal,
    });
    this.#running = upkeep;
    upkeep.start();
    const end = async (id: string, done: boolean | Error = true) => {
      await waitFor(() => open.has(id), { what: `${id} to begin` });
      open.get(id)!(done);
      open.delete(id);
    };
    return { upkeep, begun, end, stopping };
  };
}
