import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteBudget, type Reservation } from '../../src/lib/byte-budget.ts';

const never = new AbortController().signal;

/** What a promise came to, after everything that is settled has gone on. */
async function state<T>(promise: Promise<T>): Promise<T | 'waiting' | 'refused'> {
  const waiting = new Promise<'waiting'>((resolve) => setImmediate(resolve, 'waiting'));
  return await Promise.race([promise.catch(() => 'refused' as const), waiting]);
}

describe('a budget', () => {
  test('lets in what fits, and the rest in the order in which it came', async () => {
    const budget = new ByteBudget(100);
    const first = await budget.reserve(60, never);
    const big = budget.reserve(50, never);
    // It would fit, but somebody is before it.
    const small = budget.reserve(10, never);
    expect(await state(big)).toBe('waiting');
    expect(await state(small)).toBe('waiting');
    first.release();
    expect(await state(big)).not.toBe('waiting');
    expect(await state(small)).not.toBe('waiting');
  });

  test('gives all there is to whoever wants more than that', async () => {
    const budget = new ByteBudget(100);
    const all = await budget.reserve(1_000, never);
    expect(await state(budget.reserve(1, never))).toBe('waiting');
    all.release();
  });

  test('is not waited for by whoever is aborted, and who stood behind goes on', async () => {
    const budget = new ByteBudget(100);
    await budget.reserve(60, never);
    const leaving = new AbortController();
    const big = budget.reserve(50, leaving.signal);
    const small = budget.reserve(10, never);
    leaving.abort(new Error('gone'));
    expect(await state(big)).toBe('refused');
    expect(await state(small)).not.toBe('waiting');
    await expect(budget.reserve(1, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  });
});

describe('a reservation', () => {
  test('grows while there is room, and never waits', async () => {
    const budget = new ByteBudget(100);
    const one = await budget.reserve(40, never);
    const other = await budget.reserve(40, never);
    expect(one.extend(30)).toBe(true);
    expect(one.extend(60)).toBe(true);
    expect(other.extend(41)).toBe(false);
    one.release();
    expect(other.extend(100)).toBe(true);
    expect(other.extend(101)).toBe(false);
  });

  test('gives back once, however often it is released', async () => {
    const budget = new ByteBudget(100);
    const one = await budget.reserve(60, never);
    one.release();
    one.release();
    await budget.reserve(100, never);
    expect(await state(budget.reserve(1, never))).toBe('waiting');
  });
});

test('never more is held than there is, and all of it comes back', async () => {
  const capacity = 50;
  const step = fc.oneof(
    fc.record({ do: fc.constant('reserve' as const), bytes: fc.integer({ min: 0, max: 80 }) }),
    fc.record({
      do: fc.constant('extend' as const),
      bytes: fc.integer({ min: 0, max: 80 }),
      which: fc.nat(),
    }),
    fc.record({ do: fc.constant('release' as const), which: fc.nat() }),
    fc.record({ do: fc.constant('abort' as const), which: fc.nat() }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const budget = new ByteBudget(capacity);
      const held: { reservation: Reservation; bytes: number }[] = [];
      const waiting = new Set<AbortController>();
      for (const one of steps) {
        if (one.do === 'reserve') {
          const leaving = new AbortController();
          waiting.add(leaving);
          budget.reserve(one.bytes, leaving.signal).then(
            (reservation) => {
              waiting.delete(leaving);
              held.push({ reservation, bytes: Math.min(one.bytes, capacity) });
            },
            () => waiting.delete(leaving),
          );
        } else if (one.do === 'abort') [...waiting][one.which % Math.max(1, waiting.size)]?.abort();
        else if (held.length > 0) {
          const place = one.which % held.length;
          const { reservation, bytes } = held[place]!;
          if (one.do === 'release') {
            reservation.release();
            held.splice(place, 1);
          } else if (reservation.extend(one.bytes)) held[place]!.bytes = Math.max(bytes, one.bytes);
        }
        await new Promise((resolve) => setImmediate(resolve));
        expect(held.reduce((sum, each) => sum + each.bytes, 0)).toBeLessThanOrEqual(capacity);
      }
      while (held.length > 0) {
        held.pop()!.reservation.release();
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(waiting.size).toBe(0);
      expect(await state(budget.reserve(capacity, never))).not.toBe('waiting');
    }),
    { numRuns: 60 },
  );
});
