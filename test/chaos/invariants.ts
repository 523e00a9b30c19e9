import { type Kysely, type RawBuilder, sql } from 'kysely';
import type { Simulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import { differencesFromTruth } from '../support/replica.ts';

/*
 * What holds in the tables whenever one looks, whoever died; each check gives the breaches that it finds. The tables
 * are found by the search_path of the connection.
 */

type Check = readonly [what: string, breaches: RawBuilder<unknown>];

/** In one statement, so in one snapshot: a daemon may be at work meanwhile. */
const ALWAYS: readonly Check[] = [
  [
    'the ledger has a gap or an overlap',
    sql`select connection_id || ' page ' || page_id as breach
      from (select *, lag(cursor_to) over (partition by connection_id, epoch order by page_id) as before
        from sync_pages) p
      where cursor_from <> coalesce(before, 0)`,
  ],
  [
    'the cursor is not the last page’s',
    sql`select s.connection_id || ': ' || s.cursor as breach from sync_state s
      left join lateral (select cursor_to from sync_pages p
        where p.connection_id = s.connection_id and p.epoch = s.epoch order by page_id desc limit 1) p on true
      where s.cursor <> coalesce(p.cursor_to, 0)`,
  ],
  ...['conversations', 'contacts', 'messages'].flatMap((table): Check[] => [
    [
      `the number of ${table} is not the counted one`,
      sql`select s.connection_id || ': ' || ${sql.ref(`s.stored_${table}`)} || ', ' || t.n as breach
        from sync_state s, lateral (select count(*) as n from ${sql.table(table)} t
          where t.connection_id = s.connection_id) t
        where t.n <> ${sql.ref(`s.stored_${table}`)}`,
    ],
    [
      `${table} are beyond the cursor`,
      sql`select t.connection_id as breach from ${sql.table(table)} t join sync_state s using (connection_id)
        where ${sql.ref(`t.${table === 'contacts' ? 'version' : 'seq'}`)} > s.cursor and t.numbering = s.numbering`,
    ],
  ]),
  [
    'a participant has no conversation',
    sql`select p.connection_id || ' ' || p.conversation_id as breach from conversation_participants p
      where not exists (select from conversations c
        where c.connection_id = p.connection_id and c.conversation_id = p.conversation_id)`,
  ],
  [
    'the revisions of a message have a gap',
    sql`select connection_id || ' ' || message_id as breach from message_revisions
      group by connection_id, message_id having max(revision) <> count(*) or min(revision) <> 1`,
  ],
  [
    'a revision is not older than what replaced it, or equal to it',
    sql`select connection_id || ' ' || message_id || ' ' || revision as breach from (
        select connection_id, message_id, revision, seq, numbering, content_type, body, media, deleted_at,
          held_from, held_until,
          lead((numbering, seq)) over versions as next_version,
          lead((content_type, body, media, deleted_at)) over versions as next_content
        from (
          select connection_id, message_id, revision, numbering, seq, content_type, body, media, deleted_at,
            held_from, held_until
          from message_revisions
          union all
          select connection_id, message_id, 2147483647, numbering, seq, content_type, body, media, deleted_at,
            null, null
          from messages
        ) every
        window versions as (partition by connection_id, message_id order by revision)
      ) v
      where revision < 2147483647 and (next_version is null or (numbering, seq) >= next_version
        or (content_type, body, media, deleted_at) is not distinct from next_content
        or held_from > held_until)`,
  ],
  [
    'a record is in quarantine, and none was bad',
    sql`select connection_id || ' ' || kind || ' ' || coalesce(error_code, '') as breach from quarantine`,
  ],
];

/** What must hold at any time. Empty where the schema is not there yet. */
export async function breachesNow(db: Kysely<Database>): Promise<string[]> {
  const { rows: there } = await sql<{ state: string | null }>`
    select to_regclass('whatsapp.sync_state')::text as state`.execute(db);
  if (there[0]?.state == null) return await halfMigrated(db);
  const each = ALWAYS.map(
    ([what, breaches]) => sql`(select ${what}::text as what, breach::text from (${breaches}) b limit 3)`,
  );
  const { rows } = await sql<{ what: string; breach: string }>`${sql.join(each, sql` union all `)}`.execute(
    db,
  );
  return rows.map(({ what, breach }) => `${what}: ${breach}`);
}

/** Without its tables the schema is unmigrated as a whole. */
async function halfMigrated(db: Kysely<Database>): Promise<string[]> {
  const { rows } = await sql<{ breach: string }>`
    select 'a migration that did not commit left ' || relname as breach from pg_class
    where relnamespace = to_regnamespace('whatsapp') and relkind in ('r', 'p') and relname not like 'kysely%'`.execute(
    db,
  );
  return rows.map(({ breach }) => breach);
}

/** What must hold once a daemon has caught up with an upstream that rests. */
export async function breachesAtRest(db: Kysely<Database>, simulator: Simulator): Promise<string[]> {
  const breaches = [...(await breachesNow(db)), ...(await differencesFromTruth(db, simulator))];
  for (const { id, newest } of simulator.world.connections.values()) {
    const { rows } = await sql<{ cursor: string }>`
      select cursor::text from sync_state where connection_id = ${id}`.execute(db);
    if (rows[0]?.cursor !== String(newest)) {
      breaches.push(`the cursor of ${id} is ${rows[0]?.cursor}, the upstream's is ${newest}`);
    }
  }
  return breaches;
}
