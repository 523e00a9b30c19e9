import { describe, expect, test } from 'vitest';
import * as v from '../../src/config/values.ts';

/** What a text means to a setting; undefined where it is refused. */
function read(value: v.Form<unknown>, text: string): unknown {
  try {
    return value(text);
  } catch (error) {
    expect(error).toBeInstanceOf(v.Refused);
    return undefined;
  }
}

describe('a duration', () => {
  test.each([
    ['500ms', 500],
    ['15s', 15_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['30d', 2_592_000_000],
    ['0s', 0],
    ['0.5s', 500],
    ['1.5h', 5_400_000],
    [' 15s ', 15_000],
    // Whole milliseconds: Node's time-outs refuse a fraction.
    ['1.001s', 1001],
    ['2.3s', 2300],
    ['0.4ms', 0],
    ['36500d', 3_153_600_000_000],
  ])('%j is %i ms', (text, ms) => expect(read(v.duration(), text)).toBe(ms));

  test.each([
    ...[
      '15',
      '',
      ' ',
      's',
      '15 s',
      '15S',
      '15sec',
      '-1s',
      '+1s',
      '1e3s',
      '1.s',
      '.5s',
      '1:30',
      '15s30s',
      '1w',
    ],
    ...['99999999d', 'Infinity', '1m\n2s'],
  ])('%j is refused', (text) => expect(read(v.duration(), text)).toBeUndefined());

  test('has its bounds', () => {
    expect(read(v.duration(1000), '999ms')).toBeUndefined();
    expect(read(v.duration(1000), '1s')).toBe(1000);
    expect(read(v.duration(1), '0.4ms')).toBeUndefined();
    expect(read(v.duration(0, v.DAY), '1d')).toBe(v.DAY);
    expect(read(v.duration(0, v.DAY), '25h')).toBeUndefined();
  });
});

describe('a whole number', () => {
  test.each([
    ['1', 1],
    ['500', 500],
    [' 7 ', 7],
    ['007', 7],
    ['1000', 1000],
  ])('%j is %i', (text, value) => expect(read(v.integer(1, 1000), text)).toBe(value));

  test.each([
    '0',
    '1001',
    '-1',
    '+1',
    '1.0',
    '1e2',
    '0x10',
    '',
    ' ',
    'ten',
    '1 000',
    '9'.repeat(20),
    'NaN',
    '٣',
  ])('%j is refused', (text) => expect(read(v.integer(1, 1000), text)).toBeUndefined());
});

describe('a size', () => {
  test.each([
    ['1024', 1024],
    ['512KiB', 524_288],
    ['64MiB', 67_108_864],
    ['128MiB', 134_217_728],
    [' 1MiB ', 1_048_576],
  ])('%j is %i bytes', (text, size) => expect(read(v.bytes(1024), text)).toBe(size));

  test.each([
    '1023',
    '0',
    '129MiB',
    '1GiB',
    '64MB',
    '64M',
    '64 MiB',
    '64mib',
    '-1',
    '1.5MiB',
    '',
    'MiB',
    '1e6',
  ])('%j is refused', (text) => expect(read(v.bytes(1024), text)).toBeUndefined());
});

describe('a choice', () => {
  test.each([
    ['keep', 'keep'],
    [' Redact ', 'redact'],
    ['drop', undefined],
    ['', undefined],
    ['keep,redact', undefined],
    ['toString', undefined],
  ])('%j is %j', (text, value) => expect(read(v.choice('keep', 'redact'), text)).toBe(value));

  test.each([
    ['true', true],
    ['FALSE', false],
    ['on', undefined],
    ['1', undefined],
    ['', undefined],
  ])('of a flag %j is %j', (text, value) => expect(read(v.flag('true', 'false'), text)).toBe(value));
});

test.each([
  ['a', ['a']],
  [' a , b ', ['a', 'b']],
  ['a,,b', undefined],
  ['a,b,', undefined],
  [' ,b', undefined],
  ['b,a,b', ['b', 'a']],
  [',', undefined],
  [' , ', undefined],
  ['', undefined],
])('the list %j is %j', (text, values) => expect(read(v.list(), text)).toEqual(values));

test('what is sent as a header is a list of plain ASCII', () => {
  expect(read(v.headerList(), 'pa_live_a, pa_live_b')).toEqual(['pa_live_a', 'pa_live_b']);
  for (const text of ['a\nb', 'a b', 'caf\u00e9', '\u2603']) {
    expect(read(v.headerList(), text)).toBeUndefined();
  }
});

test('auto stands alone, in whatever letters', () => {
  expect(read(v.autoOrIds(), ' Auto ')).toEqual(['auto']);
  expect(read(v.autoOrIds(), 'conn_a,conn_b')).toEqual(['conn_a', 'conn_b']);
  expect(read(v.autoOrIds(), 'conn_a, AUTO')).toBeUndefined();
});

test.each([
  ['whatsapp', true],
  ['_x1', true],
  ['a'.repeat(63), true],
  ['a'.repeat(64), false],
  ['', false],
  ['1a', false],
  ['Whatsapp', false],
  ['a-b', false],
  ['a b', false],
  ['a"b', false],
  ['a;drop', false],
  ['pg_catalog', false],
  ['pg_x', false],
  ['information_schema', false],
])('the schema name %j is taken: %s', (name, taken) =>
  expect(read(v.schemaName(), name)).toBe(taken ? name : undefined),
);
