/** A slip in the id of a connection must not look like a connection of which there is nothing. */
import { expect, test } from 'vitest';
import { ensureConnections } from '../../src/store/connections.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });

test.each([
  ['gaps list', 'no gaps\n'],
  ['gaps list --json', ''],
  ['quarantine list', '0 entries\n'],
  ['quarantine retry', '0 retried, 0 still refused\n'],
  ['quarantine discard', '0 discarded\n'],
  ['media status', 'no attachments\n'],
  ['media retry', '0 attachments are due\n'],
  ['search invoice', ''],
])('%s', async (command, nothing) => {
  await ensureConnections(database.db, ['conn_a']);
  const run = (id: string) =>
    runCommand([...command.split(' '), '--connection', id], { DATABASE_URL: database.url });
  expect(await run('conn_a')).toMatchObject({ status: 0, stdout: nothing });
  const { status, stdout, stderr } = await run('conn_typo');
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toContain('wa-replica: no connection conn_typo is known here\n');
});

test('media path', async () => {
  const { status, stderr } = await runCommand(['media', 'path', 'm1', '--connection', 'conn_typo'], {
    DATABASE_URL: database.url,
  });
  expect([status, stderr]).toEqual([1, 'wa-replica: no connection conn_typo is known here\n']);
});
