/** What others in the database notify: anybody who may connect to it can, on any channel. */
import { expect, test } from 'vitest';
import { listen } from '../../src/store/notify.ts';
import { useTestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase();

test('a notice that is none of ours is passed over, and those after it are heard', async () => {
  const ending = new AbortController();
  const due: unknown[] = [];
  let leases = 0;
  let listening = false;
  const options = {
    url: database.url,
    db: database.db,
    onDue: (ids: readonly string[]) => void due.push(...ids),
    onLeases: () => void leases++,
    onListening: () => {
      listening = true;
    },
    onDeaf: () => {},
  };
  const work = listen(options, ending.signal);
  try {
    await waitFor(() => listening, { what: 'it to listen' });
    const foreign = ['', 'wake up', '5', 'null', '"due"', '[]', '{}', '{"due":5}', '{"due":null}'];
    for (const payload of [...foreign, '{"due":[5,null,"conn_a"]}', '{"leases":true}'])
      await database.query(`select pg_notify('wa_replica', $1)`, [payload]);
    await waitFor(() => leases > 0, { what: 'the last of them' });
    expect([due, leases]).toEqual([['conn_a'], 1]);
  } finally {
    ending.abort();
    await work;
  }
});
