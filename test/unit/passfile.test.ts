import { describe, expect, test } from 'vitest';
import { type Login, passwordIn } from '../../src/lib/passfile.ts';

/* The rules of libpq's password file. */

const LOGIN: Login = { host: 'host', port: 5432, database: 'database', user: 'user' };

test.each([
  ['host:5432:database:user:secret', {}],
  ['*:*:*:*:secret', {}],
  ['host:5433:*:user:another\nhost:*:database:*:secret', {}],
  ['host:5432:database:user:secret\nhost:5432:database:user:later', {}],
  ['# host:5432:database:user:remark\n#*:*:*:*:remark\n\n*:*:*:*:secret', {}],
  ['*:*:*:*:secret\r\n*:*:*:*:later\r\n', {}],
  // Without a password, without all of its fields.
  ['*:*:*:*:\n*:*:*:*\n*\n*:*:*:*:secret', {}],
  ['*:*:*:*:secret:whatever', {}],
  ['*:5432:*:*:secret', { port: '5432' }],
  ['\\:\\:1:5432:database:user:secret', { host: '::1' }],
  ['host:5432:data\\:\\\\base:us\\er:secret', { database: 'data:\\base' }],
  ['host:5432:back\\\\:user:secret', { database: 'back\\' }],
  ['host:5432:\\*:user:secret', { database: '*' }],
] as const)('%j has it', (text, login) => {
  expect(passwordIn(text, { ...LOGIN, ...login })).toBe('secret');
});

test.each([
  ['*:*:*:*:with\\:a\\\\colon/', 'with:a\\colon/'],
  ['*:*:*:*: of spaces ', ' of spaces '],
  ['*:*:*:*:ends\\', 'ends\\'],
  ['*:*:*:*:\\*', '*'],
  ['*:*:*:*:x', 'x'],
])('of %j it is %j', (text, password) => expect(passwordIn(text, LOGIN)).toBe(password));

test.each([
  '',
  'other:5432:database:user:secret',
  'HOST:5432:database:user:secret',
  'host:543:database:user:secret',
  'host:05432:database:user:secret',
  'host:5432:data:user:secret',
  'host:5432:\\*:user:secret',
  'host:5432:database:**:secret',
  ' host:5432:database:user:secret',
  'host:5432:database:user',
  'host\\:5432:database:user:secret',
])('%j has none', (text) => expect(passwordIn(text, LOGIN)).toBeUndefined());

describe('a socket', () => {
  const at = (host: string, field: string) => passwordIn(`${field}:*:*:*:secret`, { ...LOGIN, host });

  test.each(['/tmp', '/var/run/postgresql'])('of the usual folder %s is localhost', (folder) => {
    expect([at(folder, 'localhost'), at(folder, folder)]).toEqual(['secret', 'secret']);
  });

  test('of another folder is that folder', () => {
    expect([at('/srv/pg', '/srv/pg'), at('/srv/pg', 'localhost')]).toEqual(['secret', undefined]);
  });
});
