import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { describe, expect, test } from 'vitest';
import { type ConfigError, loadSettings } from '../../src/config/load.ts';
import { postgresUrl } from '../../src/config/postgres-url.ts';
import { type Form, httpUrl, isLoopback, mediaStore, Refused } from '../../src/config/values.ts';

/** What a text means to a setting; undefined where it is refused. */
function read(value: Form<unknown>, text: string): unknown {
  try {
    return value(text);
  } catch (error) {
    expect(error).toBeInstanceOf(Refused);
    return undefined;
  }
}

describe('the URL of the API', () => {
  test.each(['https://api.whatsapp-use.com', 'http://127.0.0.1:8600', 'https://proxy.example/wa/'])(
    '%s is taken',
    (text) => expect(String(read(httpUrl(), text))).toBe(new URL(text).href),
  );

  test.each([
    ...[
      '',
      'api.whatsapp-use.com',
      'localhost:8600',
      'ftp://host',
      'file:///etc/passwd',
      'https://',
      '//host',
    ],
    ...['https://user@host', 'https://user:password@host', 'https://:password@host', 'https://host/?key=1'],
    ...['https://ho st', 'https://host:99999', 'https://[::1'],
  ])('%j is refused', (text) => expect(read(httpUrl(), text)).toBeUndefined());

  test.each([
    ['http://localhost', true],
    ['http://LOCALHOST:8600', true],
    ['http://127.0.0.1', true],
    ['http://127.8.9.1', true],
    ['http://127.1', true],
    ['http://[::1]:8600', true],
    ['http://0.0.0.0', false],
    ['http://localhost.example.com', false],
    ['http://127.0.0.1.example.com', false],
    ['http://127.example.com', false],
    ['http://notlocalhost', false],
    ['http://10.0.0.1', false],
    ['http://[::2]', false],
    ['http://128.0.0.1', false],
  ])('%s is this machine: %s', (text, is) => expect(isLoopback(new URL(text))).toBe(is));
});

describe('the URL of the database', () => {
  test.each([
    'postgres://user:password@host:5432/database',
    'postgresql://host/database',
    'postgres:///database',
    'postgres:///database?host=/tmp&port=65535',
    'postgres://host/database?application_name=x',
  ])('%s is taken as it is', (text) => expect(read(postgresUrl(), text)).toBe(text));

  test.each([
    '',
    'host',
    'user@host/database',
    'mysql://host/database',
    'https://host',
    'postgres://ho st/x',
    'postgres://user@ /x',
    'postgres://host/x?port=abc',
    'postgres://host/x?port=65536',
    '5432',
  ])('%j is refused', (text) => expect(read(postgresUrl(), text)).toBeUndefined());

  /** What pg makes of it: whether TLS is used, and whether the certificate is verified. */
  function tls(query: string): unknown {
    const url = read(postgresUrl(), `postgres://host/database${query}`) as string;
    const { ssl } = new Client({ connectionString: url });
    if (typeof ssl !== 'object') return ssl;
    return (ssl as { rejectUnauthorized?: boolean }).rejectUnauthorized === false
      ? 'not verified'
      : 'verified';
  }

  test.each([
    ['', false],
    ['?sslmode=disable', false],
    ['?sslmode=prefer', 'not verified'],
    ['?sslmode=require', 'not verified'],
    ['?sslmode=verify-full', 'verified'],
    ['?application_name=a%20b&sslmode=require', 'not verified'],
    // Whoever says which reading is meant is believed.
    ['?sslmode=require&uselibpqcompat=true', 'not verified'],
    ['?sslmode=no-verify&uselibpqcompat=false', 'not verified'],
  ])('with %j has TLS as libpq would: %s', (query, expected) => expect(tls(query)).toBe(expected));

  test.each(['?sslmode=bogus', '?sslmode=', '?sslmode=no-verify', '?sslmode=allow', '?sslmode=verify-ca'])(
    'with %j is refused rather than read as another',
    (query) => expect(read(postgresUrl(), `postgres://host/database${query}`)).toBeUndefined(),
  );

  test.each([
    'postgres://us%40er:p%2Fa:100%25@/database?host=/cloudsql/a:b:c',
    'postgresql://us%40er@/database?host=/cloudsql/a:b:c&password=p%2Fa%3A100%25',
    'postgres://other:another@/database?host=/cloudsql/a:b:c&user=us%40er&password=p/a:100%25&sslmode=disable',
  ])('%s leads to a socket', (text) =>
    expect(new Client({ connectionString: read(postgresUrl(), text) as string })).toMatchObject({
      ...{ user: 'us@er', password: 'p/a:100%', host: '/cloudsql/a:b:c', database: 'database' },
    }),
  );

  test('keeps user, password and options through the change of its query', () => {
    const text = 'postgres://us%40er:p%2Fa%3Fs%23s%25@host/data%20base?options=-c%20a%3Db&sslmode=require';
    const client = new Client({ connectionString: read(postgresUrl(), text) as string });
    expect(client).toMatchObject({
      user: 'us@er',
      password: 'p/a?s#s%',
      host: 'host',
      database: 'data base',
    });
    expect(
      (client as unknown as { connectionParameters: { options: string } }).connectionParameters.options,
    ).toBe('-c a=b');
  });
});

describe('the password file of a database', () => {
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'wa-replica-test-')), 'pass word');
  writeFileSync(
    file,
    [
      '# host:5432:database:user:a remark',
      'host:5433:*:user:of another port',
      'host:5432:data\\:base:user:with\\:a\\\\colon/',
      '*:*:*:other:',
      '*:*:*:other:any',
      'localhost:5432:user:user:of a socket',
      '\\:\\:1:5432:database:user:of an address',
      '*:*:*:100%:of a percent',
    ].join('\n'),
  );
  const passfile = `passfile=${encodeURIComponent(file)}`;

  test.each([
    [`postgres://user@host/data%3Abase?${passfile}`, 'with:a\\colon/'],
    [`postgres://user@host:5433/what?${passfile}&sslmode=disable`, 'of another port'],
    [`postgres://other@host/database?${passfile}`, 'any'],
    [`postgres:///?user=user&${passfile}`, 'of a socket'],
    [`postgres://user@/?${passfile}`, 'of a socket'],
    [`postgres://user@%2Fvar%2Frun%2Fpostgresql/user?${passfile}`, 'of a socket'],
    [`postgres://user@[::1]/database?${passfile}`, 'of an address'],
    [`postgres://user:own@host/database?${passfile}`, 'own'],
    [`postgres://100%@host/database?${passfile}`, 'of a percent'],
    [`postgres://other@host/database?password=own&${passfile}`, 'own'],
  ])('%s', (text, password) => {
    const url = read(postgresUrl(), text) as string;
    expect(url).not.toContain('passfile');
    expect(new Client({ connectionString: url }).password).toBe(password);
  });

  test.each([
    [`postgres://user@host/database?${passfile}`, 'has no line for this host, port, database and user'],
    ['postgres://host/database?passfile=/nowhere', 'names a file by passfile that cannot be read (ENOENT)'],
    [
      'postgres://host/database?sslmode=verify-full&sslrootcert=/nowhere',
      'names a file by sslrootcert that cannot be read (ENOENT)',
    ],
  ])('%s is refused', (text, why) => {
    expect(() => postgresUrl()(text)).toThrow(why);
  });
});

describe('a store of attachments', () => {
  test.each([
    ['file:///srv/media', { kind: 'file', folder: '/srv/media' }],
    ['file:///srv/a%20b/', { kind: 'file', folder: '/srv/a b/' }],
    ['s3://bucket', { kind: 's3', bucket: 'bucket', prefix: '' }],
    ['s3://my.bucket/of/whatsapp/', { kind: 's3', bucket: 'my.bucket', prefix: 'of/whatsapp' }],
  ])('%s', (text, store) => expect(read(mediaStore(), text)).toEqual(store));

  test.each([
    ...['', '/srv/media', 'file://host/srv', 'file:///', 'file:srv', 's3://', 's3:///prefix', 's3://B_/x'],
    ...['s3://user:secret@bucket/x', 's3://bucket/x?y', 's3://bucket/%zz', 'https://bucket.example.com/x'],
    ...['file:///a%2Fb', 's3://bucket/a%00b'],
  ])('%j is refused', (text) => expect(read(mediaStore(), text)).toBeUndefined());
});

test('what belongs to a bucket alone is refused without one', () => {
  const of = (more: Record<string, string>) => {
    const env = { DATABASE_URL: 'postgres://h/d', WHATSAPP_USE_API_KEY: 'k', ...more };
    try {
      loadSettings(env, { database: true, upstream: true });
      return [];
    } catch (error) {
      return (error as ConfigError).problems;
    }
  };
  const s3 = { MEDIA_S3_ENDPOINT: 'http://minio:9000', MEDIA_S3_REGION: 'eu-central-1' };
  expect(of({ ...s3, MEDIA_STORE: 's3://bucket' })).toEqual([]);
  expect(of({ ...s3, MEDIA_STORE: 'file:///srv' })).toEqual([
    'MEDIA_S3_ENDPOINT is set, but MEDIA_STORE is no s3:// URL',
    'MEDIA_S3_REGION is set, but MEDIA_STORE is no s3:// URL',
  ]);
  expect(of({ MEDIA_S3_REGION: 'eu-central-1' })).toEqual([
    'MEDIA_S3_REGION is set, but MEDIA_STORE is no s3:// URL',
  ]);
  expect(of({ MEDIA_MAX_BYTES: '6GiB' })).toEqual([
    'MEDIA_MAX_BYTES wants a size from 1024 bytes to 5120MiB, such as 64MiB',
  ]);
});
