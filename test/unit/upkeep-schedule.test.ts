import { expect, test } from 'vitest';
import { lastDue } from '../../src/ops/upkeep.ts';

test('when a schedule was last due', () => {
  const at = (cron: string, now: string) => {
    const due = lastDue(cron, Date.parse(now));
    return due === 0 ? 'never' : new Date(due).toISOString();
  };
  expect(at('17 3 * * *', '2026-11-24T03:17:00Z')).toBe('2026-11-24T03:17:00.000Z');
  expect(at('17 3 * * *', '2026-11-24T03:16:59Z')).toBe('2026-11-23T03:17:00.000Z');
  expect(at('0 4 1 * *', '2026-11-24T00:00:00Z')).toBe('2026-11-01T04:00:00.000Z');
  expect(at('0 4 29 2 *', '2026-11-24T00:00:00Z')).toBe('never');
  expect(at('*/10 * * * * *', '2026-11-24T00:00:17Z')).toBe('2026-11-24T00:00:10.000Z');
});
