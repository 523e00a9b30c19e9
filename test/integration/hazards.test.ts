import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { useDaemons } from '../support/daemons.ts';
import { createTestDatabase } from '../support/database.ts';
import { startOwnPostgres } from '../support/own-postgres.ts';
import { quickSettings } from '../support/replica.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
});
afterAll(() => simulator.close());

const daemons = useDaemons(() => ({}));

const TOLD = 'Postgres may lose what it has committed';

test.each([
  ['off', true],
  ['on', false],
])('a server with fsync %s: told of is %s', async (fsync, told) => {
  const postgres = await startOwnPostgres({ fsync });
  onTestFinished(() => postgres.destroy());
  const env = quickSettings(postgres.url, simulator.url);
  const daemon = daemons.start(env);
  await daemon.logged('replicating');
  expect(daemon.stderr.includes(`"level":"warn"`) && daemon.stderr.includes(TOLD)).toBe(told);
  expect(await daemon.kill('SIGTERM')).toBe(0);
  const { status, stdout } = await runCommand(['doctor'], env);
  // It works all the same.
  expect(status).toBe(0);
  expect(stdout.includes('! durability: fsync is off: when its machine fails,')).toBe(told);
});

test('a role whose commits do not wait is told of, until it is mended as it is said', async () => {
  const database = await createTestDatabase({ migrated: true });
  onTestFinished(() => database.drop());
  const env = quickSettings(database.url, simulator.url);
  await database.query(`alter database ${database.name} set synchronous_commit = off`);
  const { status, stdout } = await runCommand(['doctor'], env);
  expect(status).toBe(0);
  const remedy =
    /! durability: synchronous_commit is off: .*\n +where it is set, or: (ALTER ROLE "[^"]+") SET (.*);/;
  expect(stdout).toMatch(remedy);
  const [, alter, setting] = remedy.exec(stdout)!;
  await database.query(`${alter} in database ${database.name} set ${setting}`);
  expect((await runCommand(['doctor'], env)).stdout).not.toContain('durability: synchronous_commit');
});
