/** Erasure (R20) of what was put aside: it is taken out of, and nothing of it comes back by a retry. */
import { expect, test } from 'vitest';
import { erase } from '../../src/sync/erase.ts';
import { retryDeadLetter } from '../../src/sync/retry.ts';
import { dump, traces } from '../support/dump.ts';
import { CONNECTION, contextOf } from '../support/pages.ts';
import {
  BOB,
  bring,
  conversations,
  database,
  db,
  direct,
  EVE,
  FORGETTING,
  HERS,
  message,
  messageIds,
  OTHER,
  ofEve,
  order,
  page,
  replay,
  useDatabase,
  world,
} from './erasure-world.ts';

useDatabase();

test('quarantined records do not bring anything back either', async () => {
  await bring(world());
  await erase(db, order());
  await replay(world());
  const letters = await database.query<{ quarantine_id: string; record_id: string }>(
    'select quarantine_id, record_id from whatsapp.quarantine where resolved_at is null order by record_id',
  );
  expect(letters.map((one) => one.record_id)).toEqual(['cnv_bad', 'm_bad_bob', 'm_bad_plain']);
  for (const { quarantine_id: id } of letters) {
    await retryDeadLetter(db, id, contextOf(db, { forgetting: FORGETTING }));
  }
  expect(traces(await dump(database), HERS)).toEqual([]);
  // One of Bob that only Postgres refuses.
  const refused = { mentioned_jids: [EVE.phone], media: { n: JSON.rawJSON('1e400000') } };
  await bring(page({ messages: [message('m_refused', refused), { ...message('x', {}), message_id: 7 }] }));
  expect(
    await database.query(`select error_code from whatsapp.quarantine where record_id = 'm_refused'`),
  ).toEqual([{ error_code: '22003' }]);
  // And where it refuses the last of two of one version, the other one is written.
  const twice = message('m_twice', {});
  await bring(
    page({
      messages: [
        { ...twice, mentioned_jids: [EVE.phone] },
        { ...twice, media: refused.media },
      ],
    }),
  );
  expect(await messageIds()).toContain('m_twice');
  expect(traces(await dump(database), HERS)).toEqual([]);
  // One that was put aside by a version that did not know of it.
  const json = JSON.stringify(message('m_late', { ...direct, ...ofEve }));
  await database.query(
    `insert into whatsapp.quarantine (connection_id, kind, record_id, record_json, record_sha256) values ($1, 'message', 'm_late', $2, 'x')`,
    [CONNECTION, json],
  );
  const [late] = await database.query<{ id: string }>(
    `select quarantine_id as id from whatsapp.quarantine where record_id = 'm_late'`,
  );
  expect(await retryDeadLetter(db, late!.id, contextOf(db, { forgetting: FORGETTING }))).toEqual({
    suppressed: true,
  });
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('quarantined records that are the same without her are one, where both are open', async () => {
  await bring(world());
  const bad = (jid: string) => message('m_twin', { seq: 99, body: 7, reactions: { [jid]: '👍' } });
  const twins = () =>
    database.query(
      `select resolved_at is null as open, record_bytes from whatsapp.quarantine where record_id = 'm_twin' order by 1`,
    );
  await bring(page({ messages: [bad(`${EVE.phone}`)] }));
  // As if it had come with bytes that are no text.
  await database.query(`update whatsapp.quarantine set resolved_at = now(), resolution = 'retried',
    record_bytes = convert_to(record_json, 'UTF8') where record_id = 'm_twin'`);
  await bring(page({ messages: [bad(EVE.lid), bad(EVE.phone)] }));
  expect(await twins()).toHaveLength(3);
  await erase(db, order());
  expect(await twins()).toEqual([
    { open: false, record_bytes: null },
    { open: true, record_bytes: null },
  ]);
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('what cannot be stored of others in a direct chat goes with it, although it names her nowhere', async () => {
  const participants = [{ participant_jid: BOB.phone, person_id: 7 }];
  const chats = () => conversations().slice(0, 2);
  await bring([...world(), ...page({ conversations: chats().map((one) => ({ ...one, participants })) })]);
  await erase(db, order());
  expect(
    await database.query(`select conversation_id from whatsapp.quarantine where kind = 'participant'
      and conversation_id <> 'cnv_group' and conversation_id <> 'cnv_bad'`),
  ).toEqual([{ conversation_id: 'cnv_bob' }]);
});

test('what cannot be stored of a message of hers goes with it, although it names nobody; of one that has its id elsewhere, nothing', async () => {
  await bring(world());
  await bring(page({ messages: [{ message_id: 'm_group', body: 7, note: 'HERWORD' }] }));
  // Any character may stand in it as an escape, so that it is read.
  const elsewhere = '{"message_id":"m_group","body":7,"note":"\\u00e9"}';
  await bring(page({ contacts: [] }), OTHER);
  await database.query(
    `insert into whatsapp.quarantine (connection_id, kind, record_id, record_json, record_sha256) values ($1, 'message', 'm_group', $2, 'x')`,
    [OTHER, elsewhere],
  );
  await erase(db, order());
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(
    await database.query(
      `select connection_id, record_json from whatsapp.quarantine where record_id = 'm_group'`,
    ),
  ).toEqual([{ connection_id: OTHER, record_json: elsewhere }]);
});
