/**
 * The sync answer, and the manners in which it may deal with what the vendor's documents leave open: cursors beyond
 * the newest change, cursors from before the window, answers from a lagging copy, order within a page.
 */
import type { Connection } from './connection.ts';
import { mix } from './random.ts';
import type { AnyRecord, Message } from './records.ts';
import { recordText } from './wire.ts';

/** int64's greatest value. */
export const MAX_INT64 = 9_223_372_036_854_775_807n;

export type RefusalStatus = 400 | 409 | 410;

export interface SyncManner {
  /**
   * What a cursor beyond the newest seq gets (a replica from before a re-pairing): `echo` = nothing newer, and the
   * cursor sent; `lower` = nothing, and the newest seq there is; or a refusal.
   */
  ahead: 'echo' | 'lower' | RefusalStatus;
  /** Refuses cursors below `cursor`, 0 excepted, which starts a first sync. */
  refuse: { cursor: bigint; status: RefusalStatus } | null;
  /** The next `times` answers come from a copy that lags `by` changes behind the cursor sent. */
  stale: { times: number; by: bigint } | null;
  /** Whether a page's records come in another order than that of their seq. */
  shuffle: boolean;
  /** The share of records that a page holds twice, 0 … 1. */
  repeat: number;
}

export function defaultSyncManner(): SyncManner {
  return { ahead: 'echo', refuse: null, stale: null, shuffle: false, repeat: 0 };
}

export interface SyncAnswer {
  readonly status: number;
  readonly body: string | Buffer;
  /** How many records the page holds. */
  readonly records: number;
}

/** The page after `cursor`, of at most `limit` records in all, in JSON text. Costs what the page holds. */
export function syncAnswer(connection: Connection, cursor: bigint, limit: number): SyncAnswer {
  const { log, sync } = connection;
  const { refuse } = sync;
  if (refuse && cursor > 0n && cursor < refuse.cursor) return refused(refuse.status, 'cursor is too old');
  if (sync.stale && sync.stale.times > 0) {
    sync.stale.times--;
    const until = cursor - sync.stale.by;
    return page(connection, until - BigInt(limit), limit, until < 0n ? 0n : until);
  }
  if (cursor > log.newest && sync.ahead !== 'echo') {
    if (sync.ahead !== 'lower') return refused(sync.ahead, 'cursor is not valid');
    return { status: 200, body: pageText(connection, [], log.newest, false), records: 0 };
  }
  return page(connection, cursor, limit, null);
}

function page(connection: Connection, cursor: bigint, limit: number, until: bigint | null): SyncAnswer {
  const { log } = connection;
  const visible = (record: AnyRecord) =>
    record.kind !== 'message' || 'text' in record || connection.served(record as Message);
  const { records, last, more } =
    until === null
      ? log.page(log.placeOf(cursor), limit, visible)
      : log.page(log.placeOf(cursor), limit, visible, log.placeOf(until));
  const next = until ?? (records.length > 0 ? log.seqAt(last) : cursor);
  return { status: 200, body: pageText(connection, records, next, more), records: records.length };
}

function pageText(
  connection: Connection,
  records: readonly AnyRecord[],
  cursor: bigint,
  more: boolean,
): string | Buffer {
  const { sync, log } = connection;
  const lists: Record<AnyRecord['kind'], (string | Buffer)[]> = {
    conversation: [],
    contact: [],
    message: [],
  };
  for (const record of records) {
    const text = recordText(record, log.seqOf(record), connection);
    const list = lists[record.kind];
    list.push(text);
    if (sync.repeat > 0 && mix(record.seq, connection.salt) < sync.repeat * 4_294_967_296) list.push(text);
  }
  const out: (string | Buffer)[] = ['{"conversations":['];
  join(out, lists.conversation, sync.shuffle);
  out.push('],"contacts":[');
  join(out, lists.contact, sync.shuffle);
  out.push('],"messages":[');
  join(out, lists.message, sync.shuffle);
  out.push(`],"cursor":${cursor},"has_more":${more}}`);
  if (!out.some((part) => typeof part !== 'string')) return out.join('');
  return Buffer.concat(out.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
}

function join(out: (string | Buffer)[], texts: (string | Buffer)[], shuffle: boolean): void {
  if (shuffle) {
    for (let i = texts.length - 1; i > 0; i--) {
      const j = mix(i, texts.length) % (i + 1);
      [texts[i], texts[j]] = [texts[j]!, texts[i]!];
    }
  }
  for (let i = 0; i < texts.length; i++) {
    if (i > 0) out.push(',');
    out.push(texts[i]!);
  }
}

function refused(status: number, error: string): SyncAnswer {
  return { status, body: JSON.stringify({ error }), records: 0 };
}
