import { type Kysely, sql } from 'kysely';

const raw = sql.raw;

/* Expressions that the program has too, in `src/store/jids.ts`. */
const hasDevice = (jid: string) => `${jid} like '%:%@%'`;
const accountOf = (jid: string) => `regexp_replace(${jid}, ':[0-9]+@', '@')`;
const phoneOf = (jid: string) =>
  `case when ${jid} ~ '^[1-9][0-9]{4,14}(:[0-9]+)?@s\\.whatsapp\\.net$'
    then '+' || split_part(split_part(${jid}, '@', 1), ':', 1) end`;

/**
 * A JID that names a device is whose account it is of, and the last message of a chat is the first of its feed, also
 * where several are of one second.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Pages in flight are waited for, so that none adds a device that is not seen here.
  await sql`lock table sync_state in exclusive mode`.execute(db);
  await sql`
    update jids d set person_id = coalesce(a.person_id, d.person_id),
      phone_e164 = coalesce(a.phone_e164, d.phone_e164, ${raw(phoneOf('d.jid'))})
    from jids o left join jids a on a.connection_id = o.connection_id and a.jid = ${raw(accountOf('o.jid'))}
    where ${raw(hasDevice('o.jid'))} and o.person_id is null
      and d.connection_id = o.connection_id and d.jid = o.jid;
    create index jids_by_account on jids (connection_id, (${raw(accountOf('jid'))})) where ${raw(hasDevice('jid'))};
  `.execute(db);
  await orderLastMessages(db);
}

/** The view as `0003_people` made it, but for the order of messages of one second. */
async function orderLastMessages(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ definition: string }>`
    select pg_get_viewdef(c.oid) as definition from pg_class c
    where c.relname = 'conversation_list' and c.relnamespace = current_schema()::regnamespace`.execute(db);
  const parts = rows[0]!.definition.split(/(order by m\.sent_at desc)(?=\s+limit 1\b)/i);
  if (parts.length !== 9) throw new Error('conversation_list is not as 0003_people made it');
  const definition = parts.map((part, at) => (at % 2 === 1 ? `${part}, m.message_id desc` : part)).join('');
  await sql`create or replace view conversation_list as ${raw(definition)}`.execute(db);
}
