import fc from 'fast-check';
import { CompiledQuery } from 'kysely';
import { expect, inject, test } from 'vitest';
import { OUTCOMES } from '../../src/model.ts';
import { parseExact } from '../../src/simulator/truth.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { lockState, type Position, readPosition, startEpoch } from '../../src/store/state.ts';
import { apply } from '../../src/sync/apply.ts';
import type { CrashPoint } from '../../src/sync/crash-points.ts';
import { pack } from '../../src/sync/packing.ts';
import { parsePage } from '../../src/upstream/page.ts';
import { useTestDatabase } from '../support/database.ts';
import { bodyOf, contextOf } from '../support/pages.ts';
import { type Came, Model, type ModelPage, text } from './any-order-model.ts';
import { type Step, step, TIME } from './any-order-steps.ts';

const SECONDS = Date.parse(TIME) / 1000;

const database = useTestDatabase({ migrated: true });
let runs = 0;

const query = async <T>(sql: string, values: unknown[]) =>
  (await database.db.executeQuery<T>(CompiledQuery.raw(sql, values))).rows;

async function write(connection: string, { cursor, ...lists }: ModelPage, at: Position, dieAt?: CrashPoint) {
  const read = parsePage(bodyOf({ cursor, ...lists }), at.cursor);
  const reached = (point: CrashPoint) => {
    if (point === dieAt) throw new Error('died');
  };
  // Both ways of writing messages, whichever of them the loop would expect to be the quicker.
  const timing = { requestedAt: performance.now(), nextPollIn: () => 1000 };
  return await apply(contextOf(database.db, { reached }), connection, at, read, pack(read).changes, timing);
}

/** Outcomes as the model counts them. */
async function applied(connection: string, came: ModelPage): Promise<Record<string, number>> {
  const result = await write(connection, came, (await readPosition(database.db, connection))!);
  if (!result.done) throw new Error('fenced');
  const counts = Object.entries(result.tally).flatMap(([kind, tally]) =>
    OUTCOMES.map((outcome) => [`${kind} ${outcome}`, tally[outcome]] as const),
  );
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

async function take(connection: string, model: Model, seen: ModelPage[], now: Step): Promise<void> {
  const at = (await readPosition(database.db, connection))!;
  switch (now.do) {
    case 'page':
    case 'replay': {
      const came = now.do === 'page' ? now.page : seen[now.which % Math.max(1, seen.length)];
      if (came === undefined) return;
      seen.push(came);
      model.apply(came);
      expect(await applied(connection, came)).toEqual(model.outcomes);
      return;
    }
    case 'fenced': {
      const other = { epoch: at.epoch + 1, cursor: at.cursor ^ 1n, term: '999' };
      expect(await write(connection, now.page, { ...at, [now.by]: other[now.by] })).toMatchObject({
        done: false,
      });
      return;
    }
    case 'crash': {
      const dieAt = bringsNothing(now.page, at) ? 'committed' : now.at;
      await expect(write(connection, now.page, at, dieAt)).rejects.toThrow('died');
      if (dieAt === 'committed') {
        seen.push(now.page);
        model.apply(now.page);
      }
      return;
    }
    default:
      if (now.do === 'reset') model.numbering++;
      await database.db.transaction().execute(async (trx) => {
        await lockState(trx, connection);
        await startEpoch(trx, connection, now.do, now.do === 'reset');
      });
  }
}

/** Whether a page is a mere poll: that is one statement, and passes none of the points inside a transaction. */
function bringsNothing({ cursor, messages, conversations, contacts }: ModelPage, at: Position): boolean {
  return cursor === at.cursor && messages.length + conversations.length + contacts.length === 0;
}

/** Everything that is stored of a connection, as texts that are equal where the contents are. */
async function stored(connection: string): Promise<Record<string, string[]>> {
  const rows = async (table: string, but: string, ...times: string[]) => {
    const seconds = times.map((name) => `'${name}', extract(epoch from t.${name})`).join(', ');
    const [row] = await query<{ all: string }>(
      `select coalesce(jsonb_agg(jsonb_strip_nulls(to_jsonb(t) - $2::text[] || jsonb_build_object(${seconds}))),
        '[]')::text as all from whatsapp.${table} t where connection_id = $1`,
      [connection, ['connection_id', 'first_synced_at', 'synced_at', ...but.split(' ')]],
    );
    return (parseExact(row!.all) as unknown[]).map(text).sort();
  };
  return {
    messages: await rows('messages', '', 'sent_at', 'deleted_at'),
    conversations: await rows('conversations', ''),
    contacts: await rows('contacts', ''),
    members: await rows('conversation_participants', ''),
    revisions: await rows('message_revisions', 'held_from held_until', 'deleted_at'),
  };
}

/** The same of the model. */
function expected(model: Model): Record<string, string[]> {
  const seconds = (fields: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, name.endsWith('_at') && value ? SECONDS : value]),
    );
  const rows = (kind: 'message' | 'conversation' | 'contact', key: string, order: 'seq' | 'version') =>
    [...model.rows[kind]].map(([id, { fields, numbering, version: at }]) => ({
      ...seconds(fields),
      [key]: id,
      [order]: at,
      numbering,
    }));
  const members = [...model.members].flatMap(([conversation_id, all]) =>
    [...all].map(([participant_jid, fields]) => ({ ...fields, conversation_id, participant_jid })),
  );
  const revisions = [...model.revisions].flatMap(([message_id, all]) =>
    all.map(({ fields, version: seq, numbering }, index) => ({
      ...seconds(fields),
      ...{ message_id, revision: index + 1, seq, numbering },
    })),
  );
  const lists = {
    messages: rows('message', 'message_id', 'seq'),
    conversations: rows('conversation', 'conversation_id', 'seq'),
    contacts: rows('contact', 'person_id', 'version'),
    members,
    revisions,
  };
  return Object.fromEntries(Object.entries(lists).map(([name, all]) => [name, all.map(text).sort()]));
}

/** What the model holds, as the upstream would serve it to one who asks from 0. */
function servedNow({ rows, members, numbering }: Model): ModelPage {
  const records = (kind: 'message' | 'conversation' | 'contact', key: string): Came[] =>
    [...rows[kind]]
      .filter(([, row]) => row.numbering === numbering)
      .map(([id, { fields, version: seq }]) => {
        const { extra: more, ...known } = fields as { extra?: object };
        const own = kind === 'contact' ? {} : { seq };
        const all = [...(members.get(id) ?? [])].map(([participant_jid, { extra: other, ...one }]) => ({
          ...{ participant_jid, ...one },
          ...(other as object | undefined),
        }));
        const participants = kind === 'conversation' ? { participants: all } : {};
        return { ...known, ...more, ...own, ...participants, [key]: id };
      });
  const cursor = 9223372036854775807n;
  return {
    cursor,
    messages: records('message', 'message_id'),
    conversations: records('conversation', 'conversation_id'),
    // One that has the field seq keeps it with what is not known, so it is in `extra` already.
    contacts: records('contact', 'person_id'),
  };
}

async function checkBooks(connection: string): Promise<void> {
  const [counts] = await query<{ kept: string; there: string }>(
    `select (s.stored_messages, s.stored_conversations, s.stored_contacts)::text as kept,
      ((select count(*) from whatsapp.messages where connection_id = $1),
       (select count(*) from whatsapp.conversations where connection_id = $1),
       (select count(*) from whatsapp.contacts where connection_id = $1))::text as there
     from whatsapp.sync_state s where connection_id = $1`,
    [connection],
  );
  expect(counts!.kept).toBe(counts!.there);
  const gaps = await query(
    `select from (select cursor_from, coalesce(lag(cursor_to) over (partition by epoch order by page_id), 0) as before
      from whatsapp.sync_pages where connection_id = $1) p where before <> cursor_from
    union all select from (select held_from, held_until,
        lag(held_until) over (partition by message_id order by revision) as before
      from whatsapp.message_revisions where connection_id = $1) r
      where held_from > held_until or before <> held_from`,
    [connection],
  );
  expect(gaps).toEqual([]);
  // What is kept of rows beside them: counts by conversation, and who is in it now.
  const off = await query(
    `select 'counts' as what, conversation_id from (select * from whatsapp.conversation_counts where connection_id = $1) n
      full join (select conversation_id, count(*) as there from whatsapp.messages
        where connection_id = $1 and conversation_id is not null group by 1) m using (conversation_id)
      where coalesce(messages_in + messages_out, 0) <> coalesce(there, 0)
    union all select 'members', coalesce(m.conversation_id, p.conversation_id)
      from (select * from whatsapp.conversation_memberships where connection_id = $1 and left_at is null) m
      full join (select * from whatsapp.conversation_participants where connection_id = $1) p
        using (conversation_id, participant_jid)
      where m.connection_id is null or p.connection_id is null`,
    [connection],
  );
  expect(off).toEqual([]);
}

const writes = (counts: Record<string, number>) =>
  Object.keys(counts).filter((name) => /inserted|updated|amended/.test(name));

// On failure the message tells seed and path; with both in TEST_SEED and TEST_PATH only the shrunken case is run.
test('any sequence of pages, replays, deaths, epochs and numberings ends in the tables of the model', async () => {
  const path = process.env.TEST_PATH;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const connection = `run_${++runs}`;
      await ensureConnections(database.db, [connection]);
      const model = new Model();
      const seen: ModelPage[] = [];
      for (const now of steps) await take(connection, model, seen, now);
      expect(await stored(connection)).toEqual(expected(model));
      await checkBooks(connection);
      // What is there already is not written again: neither the last page nor a fetch of everything from 0.
      const last = seen.at(-1);
      if (last !== undefined && steps.at(-1)!.do === 'page')
        expect(writes(await applied(connection, last))).toEqual([]);
      expect(writes(await applied(connection, servedNow(model)))).toEqual([]);
      expect(await stored(connection)).toEqual(expected(model));
    }),
    {
      seed: inject('seed'),
      numRuns: 60,
      ...(path === undefined ? {} : { path, endOnFailure: true }),
      interruptAfterTimeLimit: 45_000,
    },
  );
});
