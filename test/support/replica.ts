import type { Kysely } from 'kysely';
import { loadSettings } from '../../src/config/load.ts';
import { compareWithTruth } from '../../src/demo/compare.ts';
import { assemble, type Replica } from '../../src/replica/replica.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import type { Simulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import type { SyncEvent } from '../../src/sync/events.ts';

/** Settings that make a test quick, for a process or for {@link createReplica}. */
export function quickSettings(databaseUrl: string, upstreamUrl: string): Record<string, string> {
  return {
    DATABASE_URL: databaseUrl,
    WHATSAPP_USE_API_KEY: DEFAULT_API_KEY,
    WHATSAPP_USE_BASE_URL: upstreamUrl,
    POLL_INTERVAL: '100ms',
    POLL_INTERVAL_IDLE: '100ms',
    BACKOFF_MIN: '20ms',
    BACKOFF_MAX: '200ms',
    // What a busy machine may hold a process up for costs no lease.
    LEASE_TTL: '2s',
    REQUEST_TIMEOUT: '5s',
    SHUTDOWN_TIMEOUT: '5s',
    HTTP_PORT: 'off',
    // Its requests would come to those that a test counts, at 03:17.
    VERIFY_CRON: 'off',
  };
}

export interface TestReplica extends Replica {
  /** All that was reported, in order. */
  readonly events: SyncEvent[];
}

/** A replica in this process, whose connections are known. */
export async function createReplica(env: Record<string, string>): Promise<TestReplica> {
  const { settings } = loadSettings(env, { database: true, upstream: true });
  const events: SyncEvent[] = [];
  const replica = assemble({ settings, env, listen: (event) => events.push(event), onIdleError: () => {} });
  await replica.discovery.look(new AbortController().signal);
  return { ...replica, events };
}

/** The differences between the tables and what the simulator holds; empty where they agree. */
export async function differencesFromTruth(db: Kysely<Database>, simulator: Simulator): Promise<string[]> {
  const all: string[] = [];
  for (const id of simulator.world.connections.keys()) {
    const { differences } = await compareWithTruth(db, id, simulator.world.truth(id));
    all.push(...differences);
  }
  return all;
}
