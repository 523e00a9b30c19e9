import { loadSettings } from '../../src/config/load.ts';
import { assemble, type Replica } from '../../src/replica/replica.ts';
import type { Reached } from '../../src/sync/crash-points.ts';
import { discover, type Removal } from '../../src/sync/discovery.ts';
import type { SyncEvent } from '../../src/sync/events.ts';
import { supervise } from '../../src/sync/supervisor.ts';

/** A daemon's worker in this process, with its discovery; without HTTP, LISTEN and signals. */
export interface TestWorker extends Replica {
  /** All that was reported, in order. */
  readonly events: SyncEvent[];
  /** The connections of the events of one type, in order. */
  told(type: SyncEvent['type']): string[];
  /** Looks up the connections now. */
  look(): Promise<void>;
  /** Ends it as SIGTERM would, and closes everything. */
  stop(): Promise<void>;
}

export interface TestWorkerOptions {
  readonly removal?: Removal;
  readonly reached?: Reached;
  /** False: it looks once, and then only when told to. */
  readonly discovers?: boolean;
}

/** Starts a worker on a migrated database; its connections are looked up first. */
export async function startWorker(
  env: Record<string, string>,
  { removal, reached, discovers = true }: TestWorkerOptions = {},
): Promise<TestWorker> {
  const { settings } = loadSettings(env, { database: true, upstream: true });
  const events: SyncEvent[] = [];
  const stopping = new AbortController();
  const { signal } = stopping;
  const listen = (event: SyncEvent) => void events.push(event);
  const replica = assemble({
    settings,
    env,
    listen,
    onIdleError: () => {},
    ...(removal === undefined ? {} : { removal }),
    ...(reached === undefined ? {} : { reached }),
  });
  const { worker, workerOptions, discovery, directory } = replica;
  try {
    await discovery.look(signal);
  } catch (error) {
    await replica.close();
    throw error;
  }
  const work = [
    supervise(worker, workerOptions, () => directory.connections, settings.POLL_INTERVAL, signal),
  ];
  const beside = discovers
    ? discover(discovery, settings.DISCOVERY_INTERVAL, () => worker.held, listen, signal)
    : undefined;
  return {
    ...replica,
    events,
    told: (type) =>
      events.flatMap((event) => (event.type === type && 'connectionId' in event ? event.connectionId : [])),
    look: async () => void (await discovery.look(signal)),
    async stop() {
      stopping.abort(new DOMException('the test stops it', 'AbortError'));
      await Promise.all(work);
      await beside;
      await replica.close();
    },
  };
}
