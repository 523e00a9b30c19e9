/** What a verification holds while it waits for a page of its connection, which wants memory, too (R19). */
import { expect, test } from 'vitest';
import { verifyContext } from '../../src/cli/verifying.ts';
import { verify } from '../../src/verify/verification.ts';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const scene = OneConnection.use();

test('with however little memory for answers, drift is found and mended', async () => {
  await scene.upstream({ messages: 20 });
  await scene.replicate({
    MAX_RESPONSE_BYTES: '8KiB',
    PAGE_LIMIT: '5',
    PAGE_LIMIT_MAX: '5',
    VERIFY_RATE: '1000',
  });
  await waitFor(scene.agrees, { what: 'the backlog' });
  await scene.database.query(
    'delete from whatsapp.contacts where person_id = (select min(person_id) from whatsapp.contacts)',
  );
  const context = { ...verifyContext(scene.worker), lookAgainAfter: 10, listsBehind: 0 };
  const order = { cause: 'command' as const, repair: true };
  const { state, counts } = await verify(context, ID, order, AbortSignal.timeout(60_000));
  expect({ state, contact: counts.contact }).toMatchObject({
    state: 'finished',
    contact: { missing: 1, mended: 1 },
  });
  expect(await scene.agrees()).toBe(true);
});
