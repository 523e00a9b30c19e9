import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ConfigError, type Environment, loadSettings, readSecret } from '../../src/config/load.ts';
import { SETTINGS, type Setting } from '../../src/config/settings.ts';

const NONE = { database: false, upstream: false };
const KEY = 'WHATSAPP_USE_API_KEY';
const FILE = `${KEY}_FILE`;
const SECRETS = Object.entries<Setting>(SETTINGS).flatMap(([name, { secret }]) => (secret ? [name] : []));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-unit-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(content: string | Buffer): string {
  const name = path.join(folder, 'secret');
  writeFileSync(name, content);
  return name;
}

function failure(env: Environment): ConfigError {
  try {
    loadSettings(env, NONE);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('a secret in a file', () => {
  test.each([
    ['pa_live_1', ['pa_live_1']],
    ['pa_live_1\n', ['pa_live_1']],
    ['pa_live_1\r\n', ['pa_live_1']],
    ['  pa_live_1  \n\n', ['pa_live_1']],
    ['pa_live_1, pa_live_2\n', ['pa_live_1', 'pa_live_2']],
  ])('%j is read as %j', (content, keys) => {
    expect(loadSettings({ [FILE]: file(content) }, NONE).settings[KEY]).toEqual(keys);
  });

  test('counts as there', () => {
    const url = 'postgres://user:password@host/database';
    const env = { DATABASE_URL_FILE: file(`${url}\n`), [KEY]: 'pa_live_1' };
    expect(loadSettings(env, { database: true, upstream: true }).settings.DATABASE_URL).toBe(url);
    expect(readSecret(env.DATABASE_URL_FILE)).toBe(url);
  });

  test.each(['', ' ', '\n', '\r\n\t '])('that holds %j is an error', (content) => {
    expect(failure({ [FILE]: file(content) }).problems).toEqual([`${FILE} names an empty file`]);
  });

  test.each([
    ['is missing', () => path.join(folder, 'missing'), 'ENOENT'],
    ['is a folder', () => folder, 'EISDIR'],
    ['has no name', () => '', 'ENOENT'],
  ])('that %s is an error', (_, name, code) => {
    expect(failure({ [FILE]: name() }).problems).toEqual([
      `${FILE} names a file that cannot be read (${code})`,
    ]);
  });

  test('and in the variable is an error, even where both are the same', () => {
    const problems = [`${KEY} and ${FILE} are both set: keep one`];
    expect(failure({ [KEY]: 'pa_live_1', [FILE]: file('pa_live_1') }).problems).toEqual(problems);
  });

  test('is checked like the variable', () => {
    expect(failure({ DATABASE_URL_FILE: file('mysql://host') }).problems).toEqual([
      expect.stringMatching(/^DATABASE_URL wants a URL/),
    ]);
  });

  test('is not for settings that are none', () => {
    const { settings, warnings } = loadSettings({ PAGE_LIMIT_FILE: file('7') }, NONE);
    expect(settings.PAGE_LIMIT).toBe(500);
    expect(warnings).toEqual([]);
  });
});

describe('an empty secret', () => {
  test.each(SECRETS.flatMap((name) => ['', ' ', '\n'].map((text) => [name, text] as const)))(
    '%s=%j is an error, and the only one about it',
    (name, text) => {
      expect(failure({ [name]: text }).problems).toEqual([`${name} is empty: set it, or remove it`]);
    },
  );

  test('is an error too within a list', () => {
    for (const text of [' , ,', 'key_a,,key_b'])
      expect(failure({ [KEY]: text }).problems).toEqual([
        `${KEY} wants values with a comma between each two: one is empty`,
      ]);
  });
});

describe('no value is ever shown', () => {
  const secret = fc
    .array(fc.oneof(fc.stringMatching(/^[A-Za-z0-9:/@?=.,_ -]{1,20}$/), fc.string()), { maxLength: 3 })
    .map((parts) => `§${parts.join('')}§`)
    .filter((text) => !text.includes('\u0000'));
  const shapes = fc.constantFrom<(text: string) => string>(
    (text) => text,
    (text) => `postgres://user:${text}@host:99999/x`,
    (text) => `postgres://host/x?sslmode=${text}`,
    (text) => `mysql://user:${encodeURI(text.toWellFormed())}@host/x`,
    (text) => `http://${text}.example`,
    (text) => `https://user:${text}@host`,
    (text) => `15s${text}`,
    (text) => `${text}, ${text}`,
  );

  test('whatever stands in whichever variable', () => {
    const names = [
      ...Object.keys(SETTINGS),
      ...SECRETS.map((name) => `${name}_FILE`),
      'WA_REPLICA_X',
      'POLL_INTERVALL',
    ];
    const env = fc.dictionary(fc.constantFrom(...names), fc.tuple(shapes, secret), {
      minKeys: 1,
      maxKeys: 6,
    });
    let failures = 0;
    fc.assert(
      fc.property(env, (given) => {
        const variables = Object.fromEntries(
          Object.entries(given).map(([name, [shape, text]]) => [name, shape(text)]),
        );
        try {
          for (const warning of loadSettings(variables, NONE).warnings) expect(warning).not.toContain('§');
        } catch (error) {
          if (!(error instanceof ConfigError)) throw error;
          failures++;
          const shown = [error.message, ...error.problems, error.stack, inspect(error, { depth: null })];
          for (const text of shown) expect(text).not.toMatch(/§|%C2%A7|\u00a7/);
        }
      }),
      { numRuns: 500 },
    );
    // Else the property would say nothing.
    expect(failures).toBeGreaterThan(100);
  });

  test('nor the name of the file that a secret stands in', () => {
    const { message } = failure({
      [FILE]: path.join(folder, 'pa_live_by_mistake'),
      DATABASE_URL_FILE: folder,
    });
    expect(message).not.toContain('pa_live_by_mistake');
    expect(message).not.toContain(folder);
  });
});
