import { afterEach, expect, test } from 'vitest';
import { emptyTally } from '../../src/model.ts';
import { ChangeBell } from '../../src/ops/change-bell.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';
import { EVENTS } from './every-event.ts';

const { log, lines, empty } = logLines();
const [page] = EVENTS.page;
let ending: AbortController;
afterEach(() => {
  ending.abort();
  empty();
});

/** A bell whose notices end as is said, the last one for ever; rings at each call. */
function bell(...ends: (Error | undefined)[]) {
  ending = new AbortController();
  let notices = 0;
  const announce = async () => {
    const error = ends[Math.min(notices++, ends.length - 1)];
    if (error !== undefined) throw error;
  };
  const { listen } = new ChangeBell(announce, log, ending.signal);
  return {
    listen,
    ring: async () => {
      const before = notices;
      listen(page!);
      await waitFor(() => notices > before, { what: 'a notice' });
    },
    told: () => notices,
  };
}

test('a fault of this program is told, at each doubling in a row, and the next page rings all the same', async () => {
  const fault = new TypeError('a fault of this program');
  const { ring } = bell(fault, fault, fault, undefined, fault);
  for (let pages = 0; pages < 5; pages++) await ring();
  const told = { level: 'error', msg: 'cannot announce changes', error: 'announcing changes: TypeError' };
  expect(lines).toMatchObject([1, 2, 1].map((failures) => ({ ...told, failures })));
  expect(lines[0]!.at).toContainEqual(expect.stringContaining('change-bell.test.ts'));
});

test('an outage is told of elsewhere', async () => {
  const { ring } = bell(Object.assign(new Error('terminated'), { code: '57P01' }), undefined);
  await ring();
  await ring();
  expect(lines).toEqual([]);
});

test('pages that come while a notice is under way make one more, those without a change none', async () => {
  const { listen, ring, told } = bell(undefined);
  listen({ ...page!, tally: { ...page!.tally, message: emptyTally() } });
  expect(told()).toBe(0);
  for (let pages = 0; pages < 5; pages++) listen(page!);
  expect(told()).toBe(1);
  await waitFor(() => told() > 1, { what: 'the second notice' });
  await ring();
  expect(told()).toBe(3);
});
