import { getHeapStatistics } from 'node:v8';
import { expect, test } from 'vitest';
import { MemoryAtRest } from '../../src/ops/memory-at-rest.ts';
import type { SyncEvent } from '../../src/sync/events.ts';
import { waitFor } from '../support/wait.ts';

const MB = 1e6;

/** What V8 holds after it has been made to take a lot, in bytes. */
function grown(): number {
  // Lives until it is collected as a whole: too old for the young generation.
  const objects = Array.from({ length: 1_000_000 }, (_, i) => ({ i, next: { i } }));
  expect(objects.at(-1)?.next.i).toBe(999_999);
  return getHeapStatistics().total_physical_size;
}

const page = (moved: boolean) => ({ type: 'page', moved }) as SyncEvent;

test('memory is given back once it is quiet, and not before', () => {
  const rest = new MemoryAtRest({ quiet: 60_000, worth: 8 * MB });
  grown();
  const before = performance.now();
  rest.listen(page(true));
  expect(rest.look(before + 59_999)).toBe(false);
  expect(rest.look(performance.now() + 60_000)).toBe(true);
});

test('a page with nothing in it is no work', async () => {
  const ending = new AbortController();
  const rest = new MemoryAtRest({ every: 5, quiet: 60, worth: 8 * MB });
  const before = grown();
  rest.watch(ending.signal);
  const polling = setInterval(() => rest.listen(page(false)), 10);
  try {
    const held = () => getHeapStatistics().total_physical_size;
    await waitFor(() => held() < before - 30 * MB, { what: 'memory to be given back' });
  } finally {
    clearInterval(polling);
    ending.abort();
  }
});

test('it is given back once after work, and not again within a minute', () => {
  const rest = new MemoryAtRest({ worth: 8 * MB });
  const began = performance.now();
  const afterStart = began + 5_000;
  grown();
  expect(rest.look(afterStart)).toBe(true);
  grown();
  // A thousand connections that are polled fill as much, and all of it is gone with the next ordinary collection.
  expect(rest.look(afterStart + 600_000)).toBe(false);
  const again = new MemoryAtRest({ worth: 8 * MB, quiet: 0 });
  grown();
  expect(again.look(performance.now())).toBe(true);
  const collectedAt = performance.now();
  grown();
  again.listen(page(true));
  expect(again.look(collectedAt + 50_000)).toBe(false);
  expect(again.look(collectedAt + 61_000)).toBe(true);
});
