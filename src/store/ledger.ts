import { sql } from 'kysely';
import type { ConnectionId, Cursor } from '../model.ts';
import type { Db } from './database.ts';
import { interval } from './interval.ts';

/** What is wrong with a connection's books. */
export interface LedgerProblem {
  readonly code:
    | 'gap_in_ledger'
    | 'first_page_not_at_zero'
    | 'page_goes_back'
    | 'epoch_beyond_state'
    | 'cursor_beyond_ledger'
    | 'cursor_behind_ledger'
    | 'counter_differs'
    | 'more_rows_than_came';
  /** For a person: counts, cursors and ids of pages, nothing of a record. */
  readonly detail: string;
}

/** Problems that are told; a ledger that was cut to pieces has one for each. */
const MOST = 20;

/**
 * Checks a connection's books without the upstream: in every epoch the ledger's pages follow one another from cursor 0,
 * the stored cursor is where the last of them ends, the counters agree with the tables, and no more rows are there than
 * came. One snapshot per statement, so that it holds while pages are written. Reads every key of the connection.
 */
export async function checkLedger(db: Db, connectionId: ConnectionId): Promise<LedgerProblem[]> {
  return [...(await checkChain(db, connectionId)), ...(await checkCounts(db, connectionId))];
}

/** The highest cursor that a numbering had reached before an epoch; 0 where it began with that. */
export async function reachedBefore(
  db: Db,
  connectionId: ConnectionId,
  numbering: number,
  epoch: number,
): Promise<Cursor> {
  const { rows } = await sql<{ reached: string }>`
    select coalesce(max(cursor_to), 0) as reached from ${sql.table('sync_pages')}
    where connection_id = ${connectionId} and numbering = ${numbering} and epoch < ${epoch}`.execute(db);
  return BigInt(rows[0]!.reached);
}

async function checkChain(db: Db, connectionId: ConnectionId): Promise<LedgerProblem[]> {
  const { rows } = await sql<LedgerProblem>`
    with chain as (
      select page_id, epoch, cursor_from, cursor_to,
        lag(cursor_to) over (partition by epoch order by page_id) as before
      from ${sql.table('sync_pages')} where connection_id = ${connectionId}
    ), state as (
      select s.epoch, s.cursor,
        coalesce((select c.cursor_to from chain c where c.epoch = s.epoch order by c.page_id desc limit 1), 0) as reached,
        (select max(c.epoch) from chain c) as newest
      from ${sql.table('sync_state')} s where s.connection_id = ${connectionId}
    )
    select 'first_page_not_at_zero' as code,
      format('epoch %s begins at cursor %s, with page %s', epoch, cursor_from, page_id) as detail
    from chain where before is null and cursor_from <> 0
    union all
    select 'gap_in_ledger', format('epoch %s: page %s begins at %s, the one before it ended at %s',
      epoch, page_id, cursor_from, before)
    from chain where before <> cursor_from
    union all
    select 'page_goes_back', format('epoch %s: page %s goes from %s to %s', epoch, page_id, cursor_from, cursor_to)
    from chain where cursor_to <= cursor_from
    union all
    select 'epoch_beyond_state', format('the ledger has epoch %s, the state %s', newest, epoch)
    from state where newest > epoch
    union all
    select case when cursor > reached then 'cursor_beyond_ledger' else 'cursor_behind_ledger' end,
      format('epoch %s: the cursor is %s, the ledger ends at %s', epoch, cursor, reached)
    from state where cursor <> reached
    limit ${MOST}`.execute(db);
  return rows;
}

async function checkCounts(db: Db, connectionId: ConnectionId): Promise<LedgerProblem[]> {
  const { rows } = await sql<{ name: string; stored: string; counted: string; came: string }>`
    with brought as (
      select coalesce(sum(conversations), 0) as conversations, coalesce(sum(contacts), 0) as contacts,
        coalesce(sum(messages), 0) as messages
      from ${sql.table('sync_pages')} where connection_id = ${connectionId}
    ), books as (
      select s.stored_conversations, s.stored_contacts, s.stored_messages,
        s.beside_conversations, s.beside_contacts, s.beside_messages, b.*
      from ${sql.table('sync_state')} s cross join brought b where s.connection_id = ${connectionId}
    )
    select 'conversations' as name, stored_conversations as stored,
      (select count(*) from ${sql.table('conversations')} where connection_id = ${connectionId}) as counted,
      conversations + beside_conversations as came from books
    union all
    select 'contacts', stored_contacts,
      (select count(*) from ${sql.table('contacts')} where connection_id = ${connectionId}),
      contacts + beside_contacts from books
    union all
    select 'messages', stored_messages,
      (select count(*) from ${sql.table('messages')} where connection_id = ${connectionId}),
      messages + beside_messages from books`.execute(db);
  return rows.flatMap(({ name, stored, counted, came }) => {
    const problems: LedgerProblem[] = [];
    if (stored !== counted) {
      const detail = `${name}: ${counted} are there, ${stored} were written`;
      problems.push({ code: 'counter_differs', detail });
    }
    if (BigInt(counted) > BigInt(came)) {
      const detail = `${name}: ${counted} are there, no more than ${came} came`;
      problems.push({ code: 'more_rows_than_came', detail });
    }
    return problems;
  });
}

/** Sets the counters of stored rows to what is there. The caller holds the lock of the state row. */
export async function setCounters(db: Db, connectionId: ConnectionId): Promise<void> {
  const counted = (table: 'conversations' | 'contacts' | 'messages') =>
    sql`(select count(*) from ${sql.table(table)} where connection_id = ${connectionId})`;
  await sql`update ${sql.table('sync_state')} set stored_conversations = ${counted('conversations')},
      stored_contacts = ${counted('contacts')}, stored_messages = ${counted('messages')}
    where connection_id = ${connectionId}`.execute(db);
}

/**
 * Folds the ledger's pages of days (UTC) that ended over `detail` ago into one row for each epoch and day: the last
 * page's, from the first one's cursor, with sums. A day whose pages do not follow one another is left as it is, so that
 * folding hides nothing. One statement; done twice it changes nothing.
 * @param detail LEDGER_DETAIL in milliseconds.
 * @returns how many rows are gone.
 */
export async function foldLedger(db: Db, connectionId: ConnectionId, detail: number): Promise<number> {
  const table = sql.table('sync_pages');
  const { rows } = await sql<{ gone: number }>`
    with edge as (
      select date_trunc('day', clock_timestamp() - ${interval(detail)}, 'UTC') as at
    ), bound as (
      -- Pages come in the order of time, so that only old ones are read.
      select coalesce((select p.page_id from ${table} p, edge e
        where p.connection_id = ${connectionId} and p.applied_at >= e.at order by p.page_id limit 1),
        9223372036854775807) as page_id
    ), old as (
      select p.page_id, p.epoch, p.pages, p.cursor_from, p.cursor_to, p.conversations, p.contacts, p.messages,
        p.quarantined, date_trunc('day', p.applied_at, 'UTC') as day,
        lag(p.cursor_to) over (partition by p.epoch, date_trunc('day', p.applied_at, 'UTC') order by p.page_id) as before
      from ${table} p, edge e, bound b
      where p.connection_id = ${connectionId} and p.page_id < b.page_id and p.applied_at < e.at
    ), days as (
      select max(page_id) as kept, min(page_id) as first, epoch, day, sum(pages) as pages,
        min(cursor_from) as cursor_from, sum(conversations) as conversations, sum(contacts) as contacts,
        sum(messages) as messages, sum(quarantined) as quarantined
      from old group by epoch, day
      having count(*) > 1 and bool_and(cursor_to > cursor_from and coalesce(before, cursor_from) = cursor_from)
    ), folded as (
      update ${table} p set cursor_from = d.cursor_from, pages = d.pages, conversations = d.conversations,
        contacts = d.contacts, messages = d.messages, quarantined = d.quarantined, body_sha256 = null, worker = null
      from days d where p.connection_id = ${connectionId} and p.page_id = d.kept
    ), gone as (
      delete from ${table} p using days d, old o
      where o.epoch = d.epoch and o.day = d.day and o.page_id <> d.kept
        and p.connection_id = ${connectionId} and p.page_id = o.page_id
      returning 1
    )
    select count(*)::integer as gone from gone`.execute(db);
  return rows[0]!.gone;
}
