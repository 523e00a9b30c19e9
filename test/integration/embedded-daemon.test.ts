import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { quickSettings } from '../support/replica.ts';
import { EmbeddedScene } from './embedded-scene.ts';

const scene = EmbeddedScene.use();
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
});
afterAll(() => simulator.close());
beforeEach(scene.takeFromStock);

/** The daemon with a Postgres of its own, or one that it finds there. */
function startDaemon() {
  const { DATABASE_URL: _, ...env } = quickSettings('', simulator.url);
  return startCli(['run', '--embedded', scene.dir], env);
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
