import { type Kysely, sql, type Transaction } from 'kysely';
import type { Db } from './database.ts';
import type { Database } from './schema.ts';

/** A number of a contact of the CRM. */
export interface Link {
  readonly crmId: string;
  readonly phone: string;
  /** As it was typed. */
  readonly raw: string;
  /** Another form of a number: it is linked only where somebody is known by it. */
  readonly onlyKnown: boolean;
}

/** The ids of a stretch of contacts, in the order of their bytes: after the first, up to the last, which is in it. */
export interface Stretch {
  /** Undefined: from the first there is. */
  readonly after: string | undefined;
  /** Undefined: to the end. */
  readonly upTo: string | undefined;
}

export interface LinkCounts {
  readonly added: number;
  readonly removed: number;
}

/** What is linked, all together. */
export interface LinkTotals {
  readonly links: number;
  readonly contacts: number;
  /** Contacts of whom a number is a person's on WhatsApp, as far as the replica knows. */
  readonly matched: number;
  /** Numbers that several contacts have. */
  readonly ambiguous: number;
  /** The contacts of the first of them. */
  readonly shared: readonly (readonly string[])[];
}

/**
 * Brings the links of a stretch of ids to what is given, in one statement: what is not given goes, and what is there
 * already is not touched.
 */
export async function mergeLinks(
  db: Db,
  { after, upTo }: Stretch,
  links: readonly Link[],
): Promise<LinkCounts> {
  const table = sql.table('crm_links');
  const { rows } = await sql<LinkCounts>`
    with given as materialized (
      select distinct on (g.crm_id collate "C", g.phone) g.crm_id collate "C" as crm_id, g.phone, g.raw
      from unnest(${links.map((one) => one.crmId)}::text[], ${links.map((one) => one.phone)}::text[],
        ${links.map((one) => one.raw)}::text[], ${links.map((one) => one.onlyKnown)}::boolean[])
        as g (crm_id, phone, raw, only_known)
      where not g.only_known
        or exists (select from ${sql.table('jids')} j where j.phone_e164 = g.phone)
      -- of several writings of a number always the same
      order by g.crm_id collate "C", g.phone, g.only_known, g.raw
    ),
    gone as (
      delete from ${table} l
      where (${after ?? null}::text is null or l.crm_id > ${after ?? null})
        and (${upTo ?? null}::text is null or l.crm_id <= ${upTo ?? null})
        and not exists (select from given g where g.crm_id = l.crm_id and g.phone = l.phone_e164)
      returning 1
    ),
    written as (
      insert into ${table} as t (crm_id, phone_e164, raw_phone)
      select g.crm_id, g.phone, g.raw from given g
      where not exists (select from ${table} l
        where l.crm_id = g.crm_id and l.phone_e164 = g.phone and l.raw_phone is not distinct from g.raw)
      on conflict (crm_id, phone_e164) do update set raw_phone = excluded.raw_phone
      returning xmax = 0 as added
    )
    select (select count(*) from written where added)::integer as added,
      (select count(*) from gone)::integer as removed`.execute(db);
  return rows[0]!;
}

/** @param most as many of the numbers that several contacts have are told with their contacts. */
export async function linkTotals(db: Db, most: number): Promise<LinkTotals> {
  const table = sql.table('crm_links');
  const { rows } = await sql<Omit<LinkTotals, 'ambiguous' | 'shared'>>`
    select count(*)::integer as links, count(distinct l.crm_id)::integer as contacts,
      count(distinct l.crm_id) filter (
        where exists (select from ${sql.table('jids')} j where j.phone_e164 = l.phone_e164))::integer as matched
    from ${table} l`.execute(db);
  const shared = await sql<{ ids: string[]; all: number }>`
    select array_agg(crm_id order by crm_id) as ids, count(*) over ()::integer as all
    from ${table} group by phone_e164 having count(*) > 1 order by 1 limit ${most}`.execute(db);
  return {
    ...rows[0]!,
    ambiguous: shared.rows[0]?.all ?? 0,
    shared: shared.rows.map(({ ids }) => ids),
  };
}

/** Deletes the links of these numbers (E.164), whoever has them. @returns how many. */
export async function deleteLinks(db: Db, phones: readonly string[]): Promise<number> {
  const { rows } = await sql`delete from ${sql.table('crm_links')}
    where phone_e164 = any(${[...phones]}::text[]) returning 1`.execute(db);
  return rows.length;
}

const lockOf = (schema: string) => sql`hashtext('wa_replica crm_links'), hashtext(${schema})`;

/** Waits until nobody links, and keeps everybody from it until the transaction ends. */
export async function holdLinks(db: Db, schema: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(${lockOf(schema)})`.execute(db);
}

/** How long one who links may do nothing here: longer than the query of the CRM may take. Whoever erases waits for it, and
 * must not for ever where it was stopped (Ctrl-Z). */
const LONGEST_REST = sql.lit('5min');

/**
 * Does it in a transaction that nobody else links in.
 * @param keep false: everything is rolled back.
 * @returns undefined where another is linking now.
 */
export async function whileLinking<T>(
  db: Kysely<Database>,
  schema: string,
  keep: boolean,
  work: (trx: Transaction<Database>) => Promise<T>,
): Promise<T | undefined> {
  const trx = await db.startTransaction().setIsolationLevel('read committed').execute();
  try {
    const { rows } = await sql<{ mine: boolean }>`
      select pg_try_advisory_xact_lock(${lockOf(schema)}) as mine,
        set_config('idle_in_transaction_session_timeout', ${LONGEST_REST}, true)`.execute(trx);
    const done = rows[0]?.mine === true ? await work(trx) : undefined;
    if (keep) await trx.commit().execute();
    return done;
  } finally {
    // Of a lost connection nothing is left to roll back.
    if (!trx.isCommitted)
      await trx
        .rollback()
        .execute()
        .catch(() => {});
  }
}
