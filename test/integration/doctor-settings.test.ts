import { expect, test } from 'vitest';
import { runCommand } from '../support/command.ts';
import { CLOCK, Doctor, HEARD, linesOf, REACHABLE, UP_TO_DATE } from './doctor.ts';

const doctor = Doctor.use();
const { database } = doctor;

/** How doctor ends, and its lines without what to do. */
async function examine(env: Record<string, string>) {
  const { status, stdout, stderr } = await runCommand(['doctor'], { SEARCH: 'off', ...env });
  return { status, stderr, findings: linesOf(stdout).filter((line) => /^[✓!✗]/.test(line)) };
}
const ALLOWED = expect.stringMatching(/^✓ privileges: \w+ may read and write the tables$/);
const OF_DATABASE = [REACHABLE, CLOCK, ALLOWED, UP_TO_DATE, HEARD];

test('settings that are wrong are a line each, and the database is looked at without the key', async () => {
  const env = { DATABASE_URL: database.url, PAGE_LIMIT: 'many', POLL_INTERVALL: '5s' };
  expect(await examine(env)).toEqual({
    status: 2,
    stderr: 'wa-replica: 2 problems found\n',
    findings: [
      '✗ settings: PAGE_LIMIT wants a whole number from 1 to 100000',
      expect.stringMatching(/^✗ settings: WHATSAPP_USE_API_KEY is not set: /),
      '! settings: POLL_INTERVALL is no setting of wa-replica; POLL_INTERVAL is meant?',
      ...OF_DATABASE,
      '! upstream: not looked at',
    ],
  });
});

test('and the upstream without the database', async () => {
  const env = { WHATSAPP_USE_API_KEY: 'pa_live_wrong', WHATSAPP_USE_BASE_URL: doctor.simulator.url };
  expect(await examine(env)).toEqual({
    status: 2,
    stderr: 'wa-replica: 2 problems found\n',
    findings: [
      expect.stringMatching(/^✗ settings: DATABASE_URL is not set: /),
      '! database: not looked at',
      expect.stringMatching(/^✓ clock: the upstream /),
      '✗ key: GET /v1/me answers 401',
    ],
  });
});

test('what a wrong setting would lead to is left alone: another schema, host, key, CRM or store', async () => {
  const env = {
    DATABASE_URL: database.url,
    WHATSAPP_USE_API_KEY: 'pa_live_1',
    WHATSAPP_USE_BASE_URL: 'http://example.com',
    ERASURE_KEY: 'short',
    CRM_CONTACTS_QUERY: 'select 1',
    CRM_DATABASE_URL: 'http://crm.example.com',
    MEDIA_STORE: 's3://bucket/prefix',
    MEDIA_S3_ENDPOINT: 'minio',
  };
  const { status, findings } = await examine(env);
  expect(status).toBe(2);
  expect(findings.slice(0, 4).map((line) => line.split(' ')[2])).toEqual([
    ...['ERASURE_KEY', 'CRM_DATABASE_URL', 'MEDIA_S3_ENDPOINT', 'WHATSAPP_USE_BASE_URL'],
  ]);
  expect(findings.slice(4)).toEqual([...OF_DATABASE, '! upstream: not looked at']);
  const other = await examine({ DATABASE_URL: database.url, WA_REPLICA_SCHEMA: 'pg_catalog' });
  expect(other.findings).toContain('! database: not looked at');
});

test('the default is not looked at in place of a LISTEN_DATABASE_URL or a SEARCH that is refused', async () => {
  const env = { DATABASE_URL: database.url, LISTEN_DATABASE_URL: 'http://127.0.0.1', SEARCH: 'words' };
  const { findings } = await examine(env);
  expect(findings.slice(0, 2).map((line) => line.split(' ')[2])).toEqual(['LISTEN_DATABASE_URL', 'SEARCH']);
  expect(findings.slice(3)).toEqual([
    ...OF_DATABASE.slice(0, -1),
    ...['! listen: not looked at', '! upstream: not looked at'],
  ]);
});
