import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pack } from '../../src/sync/packing.ts';
import { dateOf } from '../../src/sync/subjects.ts';
import { parsePage } from '../../src/upstream/page.ts';

/** The oldest of a page of messages with these times, as the packed batch has it. */
function oldestOf(times: readonly object[]): number | undefined {
  // Each tells its conversation: one that tells neither that nor a time is partial, and of another batch.
  const messages = times.map((one, at) => ({ message_id: `m${at}`, conversation_id: 'c', seq: at, ...one }));
  const page = parsePage(Buffer.from(JSON.stringify({ messages, cursor: 9, has_more: false })), 1n);
  const { batches } = pack(page).changes;
  expect(batches.map(({ rows }) => rows.length)).toEqual([times.length]);
  return batches[0]!.oldest;
}

describe('the oldest message of a packed batch', () => {
  const millisecond = fc.integer({ min: Date.UTC(2026, 10, 1), max: Date.UTC(2026, 10, 1, 0, 0, 5) });
  // The year 1 is the upstream's "not set".
  const anywhere = fc.date({ min: new Date('0002-01-02'), max: new Date('9999-12-31'), noInvalidDate: true });
  const time = fc.oneof(
    millisecond.map((at) => new Date(at).toISOString()),
    millisecond.map((at) => new Date(at).toISOString().replace(/\.\d+/, '')),
    millisecond.map((at) => new Date(at + 7_200_000).toISOString().replace('Z', '+02:00')),
    anywhere.map((date) => date.toISOString()),
  );
  const unset = fc.constantFrom('0001-01-01T00:00:00Z', '');
  const times = fc.oneof(
    { weight: 6, arbitrary: fc.record({ sent_at: time }) },
    fc.record({ sent_at: unset, received_at: time }),
    fc.record({ received_at: time }),
    fc.record({ sent_at: time, received_at: time }),
  );

  test('is found whatever their order, cut to the second', () => {
    fc.assert(
      fc.property(fc.array(times, { minLength: 1, maxLength: 12 }), (all) => {
        const dates = all.map((one) => dateOf(one as Record<string, unknown>)!);
        expect(oldestOf(all)).toBe(Math.floor(Math.min(...dates) / 1000) * 1000);
      }),
      { numRuns: 500 },
    );
  });

  test('is not known where one has no date, wherever it stands', () => {
    const dated: object[] = [{ sent_at: '2026-11-01T00:00:01Z' }, { sent_at: '2026-11-01T00:00:02Z' }];
    for (let at = 0; at <= dated.length; at++) {
      for (const undated of [{}, { sent_at: '0001-01-01T00:00:00Z' }]) {
        expect(oldestOf(dated.toSpliced(at, 0, undated))).toBeUndefined();
      }
    }
  });
});
