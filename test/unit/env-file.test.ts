import { expect, test } from 'vitest';
import { readEnvFile } from '../../src/config/env-file.ts';
import { examineSettings } from '../../src/config/load.ts';

test('every line that sets nothing is told of, by its number alone', () => {
  const text = [
    '# comment, with a quote "',
    'secret',
    'A=1',
    'B: secret',
    '  export C = "one',
    'in = quotes',
    '# two" # comment',
    '=secret',
    '',
    "D='x",
    'E F=secret',
    'G="\u2028"',
    '\t# comment',
    'com.docker.x=1',
    'my-app= ',
    '-----BEGIN secret-----',
  ].join('\n');
  const { values, warnings } = readEnvFile(text);
  const told = (line: number) => `.env, line ${line}: is not of the form NAME=value, and sets nothing`;
  expect(warnings).toEqual([2, 4, 8, 11, 16].map(told));
  expect(values).toMatchObject({
    A: '1',
    C: 'one\nin = quotes\n# two',
    D: "'x",
    G: '\u2028',
    'com.docker.x': '1',
    'my-app': '',
  });
  expect(readEnvFile(text.replaceAll('\n', '\r\n'))).toEqual({ values, warnings });
});

test('a name with nothing but blanks behind it is empty, and takes nothing of the next line', () => {
  expect(readEnvFile('KEY= \nURL =\t\r\n\nA=1\nB= ')).toEqual({
    values: { KEY: '', URL: '', A: '1', B: '' },
    warnings: [],
  });
});

test('a mark of the byte order, as some editors write, is no part of a name', () => {
  expect(readEnvFile('\ufeffA=1').values).toEqual({ A: '1' });
});

const REMEDY = "put the whole value in '…', or in \"…\" or `…` where it holds a '";
const AT_HASH = `cut at a # without a blank before it: ${REMEDY}; or a blank before the #, if it begins a comment`;
const AT_QUOTE = `cut at a closing quote, with more behind it: ${REMEDY}`;

test.each([
  ['abc#def', 'abc', AT_HASH],
  ['#abc', '', AT_HASH],
  ['ab c#d # e', 'ab c', AT_HASH],
  ['a"b"#c', 'a"b"', AT_HASH],
  ['"info"x', 'info', AT_QUOTE],
  ["'a' 'b'", 'a', AT_QUOTE],
  ['`a`\tb # c', 'a', AT_QUOTE],
  ['""x', '', AT_QUOTE],
  ['"a\\"b"', 'a\\', AT_QUOTE],
  ['"a#b\n# c"d', 'a#b\n# c', AT_QUOTE],
  ['"a\nC="d"', 'a\nC=', AT_QUOTE],
])('a value that Node cuts is told of: %j', (text, kept, cut) => {
  const { values, warnings } = readEnvFile(`\nA=${text}\nB#\nexport LOG_LEVEL =${text}`);
  expect(values).toMatchObject({ A: kept, LOG_LEVEL: kept });
  const next = 2 + text.split('\n').length;
  expect(warnings).toEqual([
    `.env, line 2: the value is ${cut}`,
    `.env, line ${next}: is not of the form NAME=value, and sets nothing`,
    `.env, line ${next + 1}: LOG_LEVEL is ${cut}`,
  ]);
});

test.each([
  ['abc #d#e', 'abc'],
  ['abc\t#d', 'abc'],
  [' #abc', ''],
  ['"a#b"#c', 'a#b'],
  ["'a#\n\"b'\t# c", 'a#\n"b'],
  ['`a"\'#`', 'a"\'#'],
  ['"a#b', '"a#b'],
])('a value that is whole is not: %j', (text, value) => {
  expect(readEnvFile(`A=${text}\nB=1`)).toEqual({ values: { A: value, B: '1' }, warnings: [] });
});

test('a secret that is cut is refused, with the other problems', () => {
  const text = 'HTTP_AUTH_TOKEN=abc#def\nWEBHOOK_SECRET=a#b\nWEBHOOK_SECRET="a#b"\nPOLL_INTERVAL=x#y';
  const { values, warnings } = readEnvFile(text);
  expect(warnings).toEqual([
    `.env, line 1: HTTP_AUTH_TOKEN is ${AT_HASH}; a secret that is cut counts as empty`,
    `.env, line 2: WEBHOOK_SECRET is ${AT_HASH}; a secret that is cut counts as empty`,
    `.env, line 4: POLL_INTERVAL is ${AT_HASH}`,
  ]);
  expect(values).toEqual({ HTTP_AUTH_TOKEN: '', WEBHOOK_SECRET: 'a#b', POLL_INTERVAL: 'x' });
  expect(examineSettings(values, { database: false, upstream: false }).problems).toEqual([
    expect.stringMatching(/^POLL_INTERVAL /),
    'HTTP_AUTH_TOKEN is empty: set it, or remove it',
  ]);
});
