import { type Kysely, sql } from 'kysely';
import { expect, test } from 'vitest';
import { up } from '../../migrations/0003_people.ts';
import { startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { openTestDatabase, SCHEMA, useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';

const database = useTestDatabase({ migrated: true });

test('a replica that has rows already gets from the migration what pages would have made', async () => {
  const simulator = await startSimulator({ connections: 2, messages: 800 });
  expect(await runCommand(['sync'], quickSettings(database.url, simulator.url))).toMatchObject({ status: 0 });
  await simulator.close();
  // What the simulator has not: odd shapes, a number that only a JID tells, a message whose sender nobody knows.
  await database.query(`
    insert into whatsapp.messages (connection_id, message_id, conversation_id, sender_jid, direction, reactions) values
      ('odd', 'm1', 'c1', '4915112345678@s.whatsapp.net', 'incoming', '{"a@lid": "👍", "b@lid": 5, "x": ["y"]}')`);
  await database.query(`
    insert into whatsapp.conversation_participants (connection_id, conversation_id, participant_jid, person_id)
      values ('odd', 'c1', '77@lid', 'p1'), ('odd', 'c1', '4930123456@s.whatsapp.net', 'p1')`);
  await database.query(`insert into whatsapp.conversation_memberships
    values ('odd', 'c1', '77@lid'), ('odd', 'c1', '4930123456@s.whatsapp.net')`);
  const odd = await Promise.all([
    database.query(`insert into whatsapp.jids (connection_id, jid, person_id, phone_e164) values
      ('odd', '77@lid', 'p1', '+4930123456'), ('odd', '4930123456@s.whatsapp.net', 'p1', '+4930123456'),
      ('odd', '4915112345678@s.whatsapp.net', null, '+4915112345678')`),
    database.query(`insert into whatsapp.conversation_counts (connection_id, conversation_id, messages_in)
      values ('odd', 'c1', 1)`),
    database.query(`insert into whatsapp.message_reactions values ('odd', 'm1', 'a@lid', '👍')`),
  ]);
  expect(odd).toHaveLength(3);

  const all = async () => ({
    jids: await database.query(`select connection_id, jid, person_id, phone_e164, last_message_at
      from whatsapp.jids order by 1, 2`),
    counts: await database.query('select * from whatsapp.conversation_counts order by 1, 2'),
    reactions: await database.query(
      'select connection_id, message_id, reactor_jid, emoji from whatsapp.message_reactions order by 1, 2, 3',
    ),
    members: await database.query(
      'select connection_id, conversation_id, participant_jid, left_at from whatsapp.conversation_memberships order by 1, 2, 3',
    ),
    people: await database.query('select * from whatsapp.people order by person_key'),
  });
  const before = await all();
  for (const rows of Object.values(before)) expect(rows.length).toBeGreaterThan(5);

  const db = openTestDatabase(database.url);
  const migrated = db.transaction().execute(async (trx) => {
    await sql`
      drop view whatsapp.crm_timeline, whatsapp.people, whatsapp.conversation_list, whatsapp.message_feed, whatsapp.identities;
      drop table whatsapp.jids, whatsapp.conversation_counts, whatsapp.message_reactions,
        whatsapp.conversation_memberships;
      drop index whatsapp.conversations_by_time, whatsapp.conversations_by_chat;
      set local search_path to ${sql.id(SCHEMA)}, pg_catalog`.execute(trx);
    await up(trx as unknown as Kysely<unknown>);
  });
  await migrated.finally(() => db.destroy());
  expect(await all()).toEqual(before);
  // As first seen: when the conversation was.
  expect(
    await database.query(`select from whatsapp.conversation_memberships m join whatsapp.conversations c
      using (connection_id, conversation_id) where m.joined_at <> c.first_synced_at`),
  ).toEqual([]);
});
