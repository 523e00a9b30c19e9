import { afterEach } from 'vitest';
import { type CliProcess, startCli } from './cli.ts';
import type { TestDatabase } from './database.ts';
import { waitFor } from './wait.ts';

/** `run` processes of a test file, killed after each test. */
export interface Daemons {
  /** @param more over the settings that the file gives for all. */
  start(more?: Record<string, string>): CliProcess;
  stopAll(): Promise<void>;
}

/** @param env asked anew at every start. */
export function useDaemons(env: () => Record<string, string>): Daemons {
  const running: CliProcess[] = [];
  const stopAll = async () => {
    const ending = running.splice(0).map((daemon) => daemon.kill('SIGKILL'));
    await Promise.all(ending);
  };
  afterEach(stopAll);
  return {
    start(more = {}) {
      const daemon = startCli(['run'], { ...env(), ...more });
      running.push(daemon);
      return daemon;
    },
    stopAll,
  };
}

/** The id under which a daemon is in `workers` and holds leases. */
export async function workerOf(daemon: CliProcess): Promise<string> {
  return await waitFor(() => /"worker":"([^"]+)"/.exec(daemon.stderr)?.[1], {
    what: 'the id of a daemon',
  });
}

/** Where a daemon serves HTTP. */
export async function httpOf(daemon: CliProcess): Promise<string> {
  await daemon.logged('serving HTTP');
  const port = /"port":(\d+),"msg":"serving HTTP"/.exec(daemon.stderr)?.[1];
  return `http://127.0.0.1:${port}`;
}

/** Who holds which connections, by worker; those whose lease is over are under the empty name. */
export async function holders(database: TestDatabase): Promise<Map<string, string[]>> {
  const rows = await database.query<{ owner: string; ids: string[] }>(
    `select case when lease_expires_at > clock_timestamp() then coalesce(lease_owner, '') else '' end as owner,
      array_agg(connection_id order by connection_id) as ids
      from whatsapp.sync_state group by 1`,
  );
  return new Map(rows.map(({ owner, ids }) => [owner, ids]));
}

/** How many connections each worker holds, the greatest first, without those that nobody holds. */
export async function shares(database: TestDatabase): Promise<number[]> {
  const held = [...(await holders(database))].filter(([owner]) => owner !== '').map(([, ids]) => ids.length);
  return held.sort((a, b) => b - a);
}
