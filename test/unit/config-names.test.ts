/** Names of settings, and what is nearly one. */
import { expect, test } from 'vitest';
import { loadSettings } from '../../src/config/load.ts';
import { NONE, problemsOf } from './config-problems.ts';

test.each([
  ['POLL_INTERVALL', 'POLL_INTERVAL'],
  ['WHATSAPP_USE_APIKEY', 'WHATSAPP_USE_API_KEY'],
  ['WHATSAP_USE_API_KEY', 'WHATSAPP_USE_API_KEY'],
  ['WHATSAPP_USE_API_KEY_FIL', 'WHATSAPP_USE_API_KEY_FILE'],
  ['DATABASE_URI', 'DATABASE_URL'],
  ['DATABSE_URI', 'DATABASE_URL'],
  ['poll_interval', 'POLL_INTERVAL'],
  ['HISTORYS', 'HISTORY'],
  ['HISTROY', 'HISTORY'],
  ['SEARHC', 'SEARCH'],
])('%s is warned about with %s', (name, meant) => {
  const { warnings } = loadSettings({ [name]: 'x' }, NONE);
  expect(warnings).toEqual([`${name} is no setting of wa-replica; ${meant} is meant?`]);
});

test('are told beside what is missing for them', () => {
  const env = { WHATSAPP_USE_APIKEY: 'x', POLL_INTERVALL: '1s' };
  expect(problemsOf(env, { database: false, upstream: true })).toEqual([
    expect.stringMatching(/^WHATSAPP_USE_API_KEY is not set/),
    'WHATSAPP_USE_APIKEY is no setting of wa-replica; WHATSAPP_USE_API_KEY is meant?',
    'POLL_INTERVALL is no setting of wa-replica; POLL_INTERVAL is meant?',
  ]);
});

test('of other programs are no matter', () => {
  const others = ['PATH', 'HOME', 'LANG', 'PGHOST', 'HOSTNAME', 'TZ', 'NO_PROXY', 'NODE_OPTIONS'];
  const more = [
    'NODE_EXTRA_CA_CERTS',
    'DATABASE_PASSWORD',
    'LOG',
    'POLL',
    'WHATSAPP_BUSINESS_ID',
    'npm_config_x',
  ];
  // Further from a setting's name than a slip of the fingers.
  const far = ['HISTO', 'POLL_INTER', 'LOG_FILE'];
  const env = Object.fromEntries([...others, ...more, ...far].map((name) => [name, 'x']));
  expect(loadSettings(env, NONE).warnings).toEqual([]);
});

test.each([
  ['WA_REPLICA_SCHEME', /no setting.*WA_REPLICA_SCHEMA is meant/],
  ['WA_REPLICA_ANYTHING_ELSE', /no setting of wa-replica$/],
  ['WA_REPLICA_', /no setting/],
  ['WA_REPLICA_SCHEMA_FILE', /no setting/],
])('%s is an error', (name, problem) => {
  expect(problemsOf({ [name]: 'x' })).toEqual([expect.stringMatching(problem)]);
});

test('that Kubernetes gives to the Services of a namespace are no matter', () => {
  const of = (service: string) => ({
    [`${service}_SERVICE_HOST`]: '10.0.0.1',
    [`${service}_SERVICE_PORT`]: '80',
    [`${service}_SERVICE_PORT_HTTP`]: '80',
    [`${service}_PORT`]: 'tcp://10.0.0.1:80',
    [`${service}_PORT_80_TCP`]: 'tcp://10.0.0.1:80',
    [`${service}_PORT_80_TCP_PROTO`]: 'tcp',
    [`${service}_PORT_80_TCP_PORT`]: '80',
    [`${service}_PORT_80_TCP_ADDR`]: '10.0.0.1',
    [`${service}_PORT_53_UDP`]: 'udp://10.0.0.1:53',
  });
  const env = { ...of('WA_REPLICA'), ...of('WA_REPLICA_POSTGRES') };
  expect(loadSettings(env, NONE).warnings).toEqual([]);
});

test.each([
  ['WA_REPLICA_PORT', '8080'],
  ['WA_REPLICA_SERVICE', 'x'],
  ['WA_REPLICA_PORT_TCP', '8080'],
])('%s is none of these', (name, value) => {
  expect(problemsOf({ [name]: value })).toEqual([`${name} is no setting of wa-replica`]);
});

test.each(['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'])('%s is a URL, or empty', (name) => {
  for (const text of ['http://proxy:3128', 'HTTPS://me:secret@proxy', 'socks5://proxy', '']) {
    loadSettings({ [name]: text }, NONE);
  }
  for (const text of ['proxy:3128', '127.0.0.1:3128', 'http://secret:x', 'ftp://proxy']) {
    expect(problemsOf({ [name]: text })).toEqual([
      `${name} is no URL of a proxy: write it as http://host:port`,
    ]);
  }
});
