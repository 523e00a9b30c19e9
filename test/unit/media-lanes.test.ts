import { expect, test } from 'vitest';
import { Lanes } from '../../src/media/lanes.ts';

const roomOf = (lanes: Lanes, ids: readonly string[], now = 0) =>
  lanes.rooms(ids, now).map(({ connectionId, room }) => [connectionId, room]);

test('one connection alone has all the downloads, and half of them, rounded up, beside another', () => {
  const lanes = new Lanes(5);
  expect(roomOf(lanes, ['a'])).toEqual([['a', 5]]);
  lanes.begin('a');
  expect(roomOf(lanes, ['a', 'b'])).toEqual([
    ['a', 2],
    ['b', 3],
  ]);
  lanes.begin('a');
  lanes.begin('a');
  expect(roomOf(lanes, ['a', 'b'])).toEqual([['b', 3]]);
  lanes.end('a');
  expect(roomOf(lanes, ['a', 'b'])).toEqual([
    ['a', 1],
    ['b', 3],
  ]);
});

test('two failures in a row are tolerated, and one that is the connection’s is one too many', () => {
  const lanes = new Lanes(4);
  expect([1, 2, 3, 4].map(() => lanes.failed('a', 1))).toEqual([0, 0, 1, 2]);
  expect(lanes.failed('b', 'whole')).toBe(1);
  expect(lanes.failed('b', 1)).toBe(2);
  // Only what was held back is released.
  expect(lanes.answered('a')).toBe(4);
  expect(lanes.failed('a', 1)).toBe(0);
  expect(lanes.answered('a')).toBe(0);
});

test('one that is held back opens at its time, the latest of several, or when it is answered', () => {
  const lanes = new Lanes(2);
  lanes.hold('a', 200);
  lanes.hold('a', 100);
  lanes.hold('b', 300);
  expect(lanes.opensIn(50)).toBe(150);
  expect(roomOf(lanes, ['a', 'b'], 199)).toEqual([]);
  expect(roomOf(lanes, ['a', 'b'], 200)).toEqual([['a', 1]]);
  expect(lanes.opensIn(200)).toBe(100);
  lanes.answered('b');
  expect(roomOf(lanes, ['b'], 200)).toEqual([['b', 2]]);
  expect(lanes.opensIn(200)).toBe(Number.POSITIVE_INFINITY);
});
