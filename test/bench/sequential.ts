import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { measureBacklog } from './backlog.ts';
import type { BenchDatabase } from './postgres.ts';
import { cpuOf } from './proc.ts';
import type { Sample } from './result.ts';
import { daemonSettings, type Stage } from './stage.ts';
import type { Upstream } from './upstream.ts';

const WORKER = fileURLToPath(new URL('sequential-worker.ts', import.meta.url));

/** Baseline: the same parts as the daemon's, but a page is fetched only when the one before it is committed. */
export async function sequential(
  stage: Stage,
  upstream: Upstream,
  database: BenchDatabase,
  env: Readonly<Record<string, string>>,
): Promise<Sample> {
  const child = fork(WORKER, [], {
    execArgv: [],
    env: {
      PATH: process.env.PATH,
      ...stage.env,
      ...daemonSettings(upstream, database),
      ...env,
      CONNECTION_ID: upstream.connections[0]!.id,
    },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  const died = ended.then(([code, signal]) => {
    throw new Error(`the sequential worker ended with ${code ?? signal}`);
  });
  died.catch(() => {});
  try {
    return await measureBacklog(stage, upstream, database, async () => {
      await Promise.race([once(child, 'message'), died]);
      child.send('begin');
      return { cpu: () => cpuOf(child.pid!), died };
    });
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}
