import pg from 'pg';
import { isPersonal, phoneOf } from '../../src/store/jids.ts';
import { otherJid } from '../../src/store/message-counts.ts';
import { type PeerRows, timePeer, upsertOf } from './peers.ts';
import { SCHEMA } from './postgres.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** Rows of a page, which is a transaction. */
const PAGE = 1_000;

/** What a new message makes beside its own row, a statement each. */
const CHANGE = `insert into ${SCHEMA}.changes (connection_id, change_no, kind, record_id, op)
  values ($1, $2, $3, $4, 'inserted')`;
const COUNT = `insert into ${SCHEMA}.conversation_counts as t
    (connection_id, conversation_id, messages_in, messages_out, first_message_at, last_message_at)
  select $1, $2, 1 - out, out, $4, $4 from (select coalesce($3::boolean, false)::integer as out) d
  on conflict (connection_id, conversation_id) do update set
    messages_in = t.messages_in + excluded.messages_in, messages_out = t.messages_out + excluded.messages_out,
    first_message_at = least(t.first_message_at, excluded.first_message_at),
    last_message_at = greatest(t.last_message_at, excluded.last_message_at)`;
const JID = `insert into ${SCHEMA}.jids (connection_id, jid, phone_e164)
  select o.connection_id, o.jid, ${phoneOf('o.jid')}
  from (
    select m.connection_id, ${otherJid('m.')} as jid
    from (values ($1::text, $2::text, $3::text, $4::text, $5::boolean)) as m
      (connection_id, chat_jid, sender_jid, direction, is_from_me)
  ) o
  where ${isPersonal('o.jid')}
  on conflict (connection_id, jid) do nothing`;
const REACTION = `insert into ${SCHEMA}.message_reactions as t (connection_id, message_id, reactor_jid, emoji)
  values ($1, $2, $3, $4)
  on conflict (connection_id, message_id, reactor_jid) do update set emoji = excluded.emoji, since = now()`;

type Value = string | null;

/**
 * Baseline, the naive way of writing all that the replica writes of a message: page after page a transaction, in it row
 * after row the message's upsert, its change, its conversation's count, whose JID it is, and its reactions with a change
 * each; all prepared once. Only the writing is measured, as of the other peers. What is stored is not looked up first,
 * so that edits would have neither history nor columns that changed: it does less, still.
 */
export function naiveEverything(stage: Stage, peer: PeerRows): Promise<Sample> {
  const { rows, columns } = peer;
  const text = upsertOf(peer);
  const of = (row: readonly Value[], column: string) => row[columns.indexOf(column)] ?? null;
  return timePeer(stage, peer, async (url) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const run = (name: string, sql: string, values: (Value | number)[]) =>
      client.query({ name, text: sql, values });
    let changes = 0;
    const inConversations = rows.filter((row) => of(row, 'conversation_id') !== null).length;
    const write = async (row: readonly Value[]) => {
      const connection = of(row, 'connection_id');
      const message = of(row, 'message_id');
      await run('upsert', text, [...row]);
      await run('change', CHANGE, [connection, ++changes, 'message', message]);
      const [conversation, direction, fromMe] = ['conversation_id', 'direction', 'is_from_me'].map((column) =>
        of(row, column),
      );
      const sent = fromMe ?? (direction === null ? null : `${direction === 'outgoing'}`);
      if (conversation !== null)
        await run('count', COUNT, [connection, conversation!, sent, of(row, 'sent_at')]);
      const others = [of(row, 'chat_jid'), of(row, 'sender_jid'), direction!, fromMe!];
      await run('jid', JID, [connection, ...others]);
      const reactions = JSON.parse(of(row, 'reactions') ?? '{}') as Record<string, { emoji: string }>;
      for (const [reactor, { emoji }] of Object.entries(reactions)) {
        await run('reaction', REACTION, [connection, message, reactor, emoji]);
        await run('change', CHANGE, [connection, ++changes, 'reaction', `${message} ${reactor}`]);
      }
    };
    return {
      async write() {
        for (let at = 0; at < rows.length; at += PAGE) {
          await client.query('begin');
          for (const row of rows.slice(at, at + PAGE)) await write(row);
          await client.query('commit');
        }
      },
      async close() {
        const { rows: found } = await client.query<{ told: number; counted: number }>(
          `select (select count(*) from ${SCHEMA}.changes)::integer as told,
            (select sum(messages_in + messages_out) from ${SCHEMA}.conversation_counts)::integer as counted`,
        );
        const [{ told, counted }] = found as [{ told: number; counted: number }];
        if (told !== changes || counted !== inConversations) {
          throw new Error(`told ${told} of ${changes} changes, counted ${counted} of ${inConversations}`);
        }
        await client.end();
      },
    };
  });
}
