import { readFile } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { isAlive } from '../../src/embedded/postmaster.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { EmbeddedScene } from './embedded-scene.ts';

const scene = EmbeddedScene.use();
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
});
afterAll(() => simulator.close());
beforeEach(scene.takeFromStock);

/** The daemon with a Postgres of its own, or one that it finds there. */
function startDaemon(more: Record<string, string> = {}) {
  const { DATABASE_URL: _, ...env } = quickSettings('', simulator.url);
  return startCli(['run', '--embedded', scene.dir], { ...env, ...more });
}
const postmaster = async () =>
  Number((await readFile(path.join(scene.dir, 'postgres/data/postmaster.pid'), 'utf8')).split('\n')[0]);

test.each(['its own', 'one that it found running'])(
  'ends with its Postgres, %s, and a new start starts both',
  async (whose) => {
    if (whose !== 'its own') await scene.start();
    const daemon = startDaemon();
    await daemon.logged('replicating');
    process.kill(await postmaster(), 'SIGKILL');
    expect(await daemon.ended).toBe(1);
    expect(daemon.stderr).toContain('"msg":"the Postgres of --embedded has ended"');
    expect(daemon.stderr.trimEnd().split('\n').at(-1)).toBe(
      'wa-replica: The Postgres of --embedded has ended. Start this anew: it starts that, too.',
    );
    const next = startDaemon();
    await next.logged('replicating');
    expect(await next.kill('SIGTERM')).toBe(0);
    expect(next.stderr).not.toContain('has ended');
  },
);

test('a second signal, while something holds up its end, leaves no Postgres behind', async () => {
  const daemon = startDaemon({ SHUTDOWN_TIMEOUT: '1h' });
  await daemon.logged('replicating');
  const server = await postmaster();
  const other = new pg.Client({ connectionString: /^Postgres: (.+)$/m.exec(daemon.stderr)![1]! });
  other.on('error', () => {});
  await other.connect();
  await other.query('begin; lock table whatsapp.workers');
  daemon.process.kill('SIGTERM');
  await daemon.logged('stopping');
  expect(await daemon.kill('SIGTERM')).toBe(1);
  await waitFor(async () => !(await isAlive(server)), { what: 'Postgres to end' });
});
