import { sql } from 'kysely';
import { identifier } from '../lib/identifiers.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { keySet } from './keys.ts';

/** An id that means somebody on one connection only. */
export interface PersonId {
  readonly connectionId: ConnectionId;
  readonly personId: string;
}

/** Everything that names one person. */
export interface Person {
  /** In one form (see `identifier`); numbers are among them as phone JIDs. */
  readonly jids: ReadonlySet<string>;
  readonly ids: readonly PersonId[];
}

/** SQL: a JID in its one form, as `identifier` has it. */
export function jidOf(column: string): string {
  return `replace(regexp_replace(lower(${column} collate "C"), ':[0-9]+@', '@'), '@c.us', '@s.whatsapp.net')`;
}

/** SQL: whether the connection and the id in two columns are one of the person's ids. */
export function isPersonId(connection: string, id: string, { ids }: Person) {
  const keys = ids.map(({ connectionId, personId }) => ({ connectionId, id: personId }));
  return sql`(${sql.raw(connection)}, ${sql.raw(id)}) in ${keySet(keys)}`;
}

/** The people who have this id, on this connection or on any; those that `jids` or `contacts` know. */
export async function personIds(
  db: Db,
  personId: string,
  connectionId: ConnectionId | undefined,
): Promise<PersonId[]> {
  const { rows } = await sql<PersonId>`
    select connection_id as "connectionId", person_id as "personId" from ${sql.table('jids')}
    where person_id = ${personId} and connection_id = coalesce(${connectionId ?? null}, connection_id)
    union select connection_id, person_id from ${sql.table('contacts')}
    where person_id = ${personId} and connection_id = coalesce(${connectionId ?? null}, connection_id)
    union select connection_id, direct_person_id from ${sql.table('conversations')}
    where direct_person_id = ${personId} and connection_id = coalesce(${connectionId ?? null}, connection_id)
    order by 1`.execute(db);
  return rows;
}

/**
 * Everything that the tables know to name the same person: who is behind a JID (`jids`), and what contacts say of
 * themselves, followed until nothing is new. On all connections, since a JID is the same person on each.
 */
export async function everyNameOf(db: Db, known: Person): Promise<Person> {
  const jids = new Set(known.jids);
  const ids = new Map(known.ids.map((one) => [keyOf(one), one]));
  for (let before = -1; before < jids.size + ids.size; ) {
    before = jids.size + ids.size;
    for (const { connectionId, personId, names } of await tied(db, { jids, ids: [...ids.values()] })) {
      for (const name of names) if (name !== null) jids.add(identifier(name));
      if (personId !== null) ids.set(keyOf({ connectionId, personId }), { connectionId, personId });
    }
  }
  return { jids, ids: [...ids.values()] };
}

function keyOf({ connectionId, personId }: PersonId): string {
  return JSON.stringify([connectionId, personId]);
}

interface Tied {
  readonly connectionId: ConnectionId;
  readonly personId: string | null;
  readonly names: readonly (string | null)[];
}

/** A LID's digits are no number, even where a contact has them as one. */
const CONTACT_PHONE = `case when translate(c.phone_e164, ' ().+-', '') is distinct from split_part(c.lid_jid, '@', 1)
      then '+' || translate(c.phone_e164, ' ().+-', '') end`;

async function tied(db: Db, person: Person): Promise<Tied[]> {
  const jids = sql`${[...person.jids]}::text[]`;
  const phones = sql`${phonesOf(person.jids)}::text[]`;
  const { rows } = await sql<Tied>`
    select j.connection_id as "connectionId", j.person_id as "personId", array[j.jid, j.phone_e164] as names
    from ${sql.table('jids')} j
    where ${sql.raw(jidOf('j.jid'))} = any(${jids}) or j.phone_e164 = any(${phones})
      or ${isPersonId('j.connection_id', 'j.person_id', person)}
    union all
    select c.connection_id, c.person_id, array[c.phone_jid, c.lid_jid, ${sql.raw(CONTACT_PHONE)}]
    from ${sql.table('contacts')} c
    where ${sql.raw(jidOf('c.phone_jid'))} = any(${jids}) or ${sql.raw(jidOf('c.lid_jid'))} = any(${jids})
      or ${sql.raw(CONTACT_PHONE)} = any(${phones}) or ${isPersonId('c.connection_id', 'c.person_id', person)}`.execute(
    db,
  );
  return rows;
}

/** The numbers among JIDs, in E.164. */
export function phonesOf(jids: Iterable<string>): string[] {
  return [...jids].flatMap((jid) => {
    const digits = /^([1-9]\d{4,14})@s\.whatsapp\.net$/.exec(jid)?.[1];
    return digits === undefined ? [] : [`+${digits}`];
  });
}

/** The connections whose own account is among these JIDs. */
export async function accountsAmong(db: Db, jids: ReadonlySet<string>): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string; jid: string }>`
    select connection_id, jid from ${sql.table('connections')} where jid is not null order by 1`.execute(db);
  return rows.flatMap((row) => (jids.has(identifier(row.jid)) ? [row.connection_id] : []));
}

/** Every JID that the tables know, a part at a time. */
export async function* allJids(db: Db): AsyncGenerator<string[]> {
  for (let after = ''; ; ) {
    const { rows } = await sql<{ jid: string }>`
      select distinct jid from ${sql.table('jids')} where jid > ${after} order by jid limit 20000`.execute(
      db,
    );
    if (rows.length === 0) return;
    yield rows.map(({ jid }) => jid);
    after = rows.at(-1)!.jid;
  }
}
