import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Scratch } from '../../src/lib/scratch.ts';

const LEAST = 16;
const text = fc.string({ unit: 'grapheme', maxLength: 12 });
const bytes = fc.uint8Array({ maxLength: 120 });

test('whatever is written is there, over the end of what there was room for too', () => {
  const writes = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('byte' as const), value: fc.nat(255) }),
      fc.record({
        kind: fc.constant('int32' as const),
        value: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      }),
      fc.record({ kind: fc.constant('text' as const), value: text }),
      fc.record({ kind: fc.constant('copy' as const), value: bytes, from: fc.nat(20) }),
    ),
    { maxLength: 30 },
  );
  fc.assert(
    fc.property(writes, fc.nat(LEAST), (all, start) => {
      const scratch = new Scratch(LEAST);
      scratch.begin(start);
      const expected = all.map((one) => {
        switch (one.kind) {
          case 'byte':
            scratch.byte(one.value);
            return Buffer.of(one.value);
          case 'int32': {
            scratch.int32(one.value);
            const four = Buffer.alloc(4);
            four.writeInt32BE(one.value);
            return four;
          }
          case 'text':
            scratch.text(one.value);
            return Buffer.from(one.value);
          default: {
            const from = Math.min(one.from, one.value.length);
            scratch.copy(Buffer.from(one.value), from, one.value.length);
            return Buffer.from(one.value.subarray(from));
          }
        }
      });
      const written = scratch.bytes.subarray(start, scratch.at);
      expect(written.equals(Buffer.concat(expected))).toBe(true);
    }),
    { numRuns: 500 },
  );
});

test('memory beyond 4 MiB is given back when it is done with', () => {
  const scratch = new Scratch(LEAST);
  scratch.begin();
  scratch.copy(Buffer.alloc(4 * 1024 ** 2), 0, 4 * 1024 ** 2);
  scratch.end();
  expect(scratch.bytes.length).toBe(4 * 1024 ** 2);
  scratch.byte(1);
  scratch.end();
  expect(scratch.bytes.length).toBe(LEAST);
});
