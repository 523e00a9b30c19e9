import { expect, test } from 'vitest';
import { humanDuration, roughDuration } from '../../src/lib/durations.ts';

const DAY = 86_400;

test.each([
  [0, '0.0 s', '0.0 s'],
  [0.86, '0.9 s', '0.9 s'],
  [42.4, '42 s', '42 s'],
  [59.7, '59 s', '59 s'],
  [62, '1 min 2 s', '1 min'],
  [3_599.6, '1 h 0 min', '1 h'],
  [5_400, '1 h 30 min', '1 h'],
  [2 * DAY - 3_600, '1 d 23 h', '1 d'],
  [2 * DAY - 865, '1 d 23 h', '1 d'],
  [2 * DAY - 863, '2 d 0 h', '2 d'],
  [DAY - 20, '1 d 0 h', '1 d'],
  [93_784, '1 d 2 h', '1 d'],
  [-93_784, '−1 d 2 h', '−1 d'],
])('%d seconds', (seconds, human, rough) => {
  expect([humanDuration(seconds), roughDuration(seconds)]).toEqual([human, rough]);
});

test('the window of a connection that was current a moment ago is whole', () => {
  expect([humanDuration(30 * DAY - 66), roughDuration(30 * DAY - 66)]).toEqual(['30 d 0 h', '30 d']);
});
