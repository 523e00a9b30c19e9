import { expect, test } from 'vitest';
import { readEnvFile } from '../../src/config/env-file.ts';

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
