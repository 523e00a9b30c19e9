import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/server.ts';
import { scratchFolder } from './scratch.ts';
import { steadyPort } from './steady-port.ts';

/** A server of a test's own, which it may stop and kill without disturbing the others. */
export interface OwnPostgres {
  /** Of the database `wa_replica`; the same after every start. */
  readonly url: string;
  readonly port: number;
  /** Ends it; `immediate` gives nobody the time to finish, and leaves crash recovery to the next start. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
  /** Kills the postmaster with SIGKILL; the backends follow by themselves. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with the same data. */
  start(): Promise<void>;
  /** Stops it and deletes the data. */
  destroy(): Promise<void>;
}

/** Starts a separate embedded server. Crashes are real, so what it has committed must outlive them. */
export async function startOwnPostgres(settings: Record<string, string> = {}): Promise<OwnPostgres> {
  const dir = scratchFolder();
  // A killed process loses nothing that it wrote to the operating system: fsync is for power cuts only.
  const all = { fsync: 'off', ...settings };
  const port = await steadyPort();
  let server: EmbeddedPostgres = await startEmbeddedPostgres({ dir, settings: all, port });
  const { url } = server;
  return {
    url,
    port,
    stop: (mode) => server.stop(mode),
    kill: () => server.crash(),
    async start() {
      server = await startEmbeddedPostgres({ dir, settings: all, port });
    },
    destroy: () => server.destroy(),
  };
}
