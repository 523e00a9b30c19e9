import { describe, expect, test } from 'vitest';
import { cleanMimeType, extensionOf, isStrayPage, mimeTypeOf } from '../../src/media/mime-types.ts';
import { isOurs, pathOf } from '../../src/media/paths.ts';

test.each([
  ['audio/ogg; codecs=opus', 'audio/ogg'],
  [' Image/JPEG ', 'image/jpeg'],
  ['', null],
  [undefined, null],
  ['jpeg', null],
  ['../../etc/passwd', null],
  ['image/../x', null],
  [`image/${'x'.repeat(500)}`, null],
])('%j is the type %j', (text, type) => {
  expect(cleanMimeType(text)).toBe(type);
});

test('an extension comes from the list, or there is none', () => {
  expect(extensionOf('image/jpeg')).toBe('.jpg');
  for (const type of [null, 'application/x-msdownload', 'constructor', '__proto__', 'text/html'])
    expect(extensionOf(type)).toBe('');
});

test('what is served counts, and what the message says where that says nothing', () => {
  expect(mimeTypeOf('image/png', 'image/jpeg')).toBe('image/png');
  expect(mimeTypeOf('application/octet-stream', 'image/jpeg')).toBe('image/jpeg');
  expect(mimeTypeOf(undefined, 'audio/ogg; codecs=opus')).toBe('audio/ogg');
  expect(mimeTypeOf('application/octet-stream', null)).toBe('application/octet-stream');
  expect(mimeTypeOf(undefined, null)).toBeNull();
});

describe('a page of something in between', () => {
  test.each([
    ['text/html; charset=utf-8', 'image/jpeg', 'image', true],
    ['text/html', null, 'image', true],
    ['text/html', null, 'document', false],
    ['text/html', 'text/html', 'document', false],
    ['image/jpeg', 'image/jpeg', 'image', false],
    [undefined, null, null, false],
  ] as const)('%s for %s (%s): %s', (served, told, contentType, stray) => {
    expect(isStrayPage(served, told, contentType)).toBe(stray);
  });
});

test('a path is of a content alone, and no other path is ours', () => {
  const hash = 'ab'.repeat(32);
  expect(pathOf(hash, '.jpg')).toBe(`ab/ab/${hash}.jpg`);
  expect(isOurs(pathOf(hash, '.jpg'))).toBe(true);
  expect(isOurs(pathOf(hash, ''))).toBe(true);
  for (const path of [
    ...['', '../x', `ab/cd/${hash}`, `ab/ab/${hash}/x`, `ab/ab/${hash}.jpg/../../x`, `/ab/ab/${hash}`],
    ...[`ab/ab/${hash}.`, `ab/ab/${hash}.JPG`, '.wa-replica-store', `ab/ab/${hash}.orphan`],
  ])
    expect([path, isOurs(path)]).toEqual([path, false]);
});
