/** Pages of records as texts or bytes, applied and looked at: for the tests of records that cannot be stored. */
import { CompiledQuery, type Kysely } from 'kysely';
import type { Entity } from '../../src/entities.ts';
import { parseExact } from '../../src/simulator/truth.ts';
import type { Database } from '../../src/store/schema.ts';
import type { ApplyContext } from '../../src/sync/apply.ts';
import type { ArrayName } from '../../src/upstream/page.ts';
import type { TestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';

/** A record as the upstream may write it; an object stands for its JSON, bigints as integers. */
export type Source = string | Buffer | object;

export type Lists = Partial<Record<ArrayName, readonly Source[]>>;

export function bytesOf(record: Source): Buffer {
  if (Buffer.isBuffer(record)) return record;
  if (typeof record === 'string') return Buffer.from(record);
  return Buffer.from(
    JSON.stringify(record, (_, value: unknown) =>
      typeof value === 'bigint' ? JSON.rawJSON(value.toString()) : value,
    ),
  );
}

/** An answer with the records' bytes exactly as given, with space between. */
export function rawPage(cursor: bigint, lists: Lists): Buffer {
  const parts = Object.entries(lists).flatMap(([name, records]) => [
    `"${name}" : [`,
    ...records.flatMap((record, index) => [index === 0 ? '\n' : ' ,\t', bytesOf(record)]),
    '],',
  ]);
  return Buffer.concat(['{', ...parts, `"cursor":${cursor},"has_more":false}`].map(bytesOf));
}

let made = 0;

/** A record with every field, and with ids of its own. */
export function good(entity: Entity, seq: bigint): Record<string, unknown> & { id: string } {
  const id = `good-${++made}`;
  const values = {
    id: `${id}@lid`,
    text: `text ${id} ✓`,
    boolean: true,
    time: '2026-11-01T10:00:00.123456Z',
  };
  const object = { id, n: 9007199254740993n };
  const fields = Object.entries(entity.fields).map(([name, type]) => [name, { ...values, object }[type]]);
  const own = entity.version === 'seq' ? { seq } : {};
  return { ...Object.fromEntries(fields), ...own, [entity.key]: id, unknown: object, id };
}

/** What a good record has to look like there. */
export function asStored({ id, unknown, ...fields }: ReturnType<typeof good>): object {
  const text = bytesOf({ ...fields, extra: { id, unknown } }).toString();
  return parseExact(text.replaceAll('.123456Z"', '.123456+00:00"')) as object;
}

/** An open or resolved entry of the quarantine, with the bytes that come out of it. */
export interface Entry {
  readonly quarantine_id: string;
  readonly kind: string;
  readonly record_id: string | null;
  readonly conversation_id: string | null;
  readonly record_json: string;
  readonly bytes: Buffer;
  readonly record_sha256: string;
  readonly error_code: string;
  readonly error: string;
  readonly numbering: number;
  readonly cursor_from: string;
  readonly cursor_to: string;
  readonly attempts: number;
  readonly last_seen_at: Date;
  readonly resolution: string | null;
}

/** One database, its tables and the pages that are written to it, at ever higher cursors. */
export class Bench {
  readonly #database: TestDatabase;
  cursor = 9_007_199_254_740_993n;
  #begun = false;

  constructor(database: TestDatabase) {
    this.#database = database;
  }

  get db(): Kysely<Database> {
    return this.#database.db;
  }

  /** On the pool, because a connection of its own for each of a thousand questions takes its time. */
  async query<T extends object>(sql: string, ...values: unknown[]): Promise<T[]> {
    return (await this.db.executeQuery<T>(CompiledQuery.raw(sql, values))).rows;
  }

  /** Writes a page as the daemon does. */
  async bring(lists: Lists, changes: Partial<ApplyContext> = {}) {
    const from = this.#begun ? this.cursor : 0n;
    this.#begun = true;
    this.cursor += 100n;
    return { from, ...(await applyAnswer(this.db, rawPage(this.cursor, lists), changes)) };
  }

  /** The same page once more, at the cursor that it had. */
  async bringAgain(lists: Lists) {
    return await applyAnswer(this.db, rawPage(this.cursor, lists));
  }

  /** What the latest page put aside. */
  async putAside(): Promise<Entry[]> {
    return await this.entries(`cursor_to = ${this.cursor}`);
  }

  async entries(where: string): Promise<Entry[]> {
    return await this.query<Entry>(
      `select *, coalesce(record_bytes, convert_to(record_json, 'UTF8')) as bytes from whatsapp.quarantine
        where connection_id = $1 and (${where}) order by quarantine_id`,
      CONNECTION,
    );
  }

  async storedCursor(): Promise<bigint> {
    const [row] = await this.query<{ cursor: string }>(
      'select cursor from whatsapp.sync_state where connection_id = $1',
      CONNECTION,
    );
    return BigInt(row!.cursor);
  }

  /** A row as Postgres writes it, with every digit. */
  async row(entity: Entity, id: string): Promise<Record<string, unknown> | undefined> {
    const [found] = await this.query<{ row: string }>(
      `select to_jsonb(t)::text as row from whatsapp.${entity.table} t where connection_id = $1 and ${entity.key} = $2`,
      CONNECTION,
      id,
    );
    return found && (parseExact(found.row) as Record<string, unknown>);
  }
}
