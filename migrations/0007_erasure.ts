import { type Kysely, sql } from 'kysely';

/**
 * Forgetting. What was erased is known here by keyed hashes alone: the key is not in the database. A suppression or an
 * erasure with an empty `connection_id` holds for all connections, those of later too.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table erasures (
      connection_id text not null,
      erasure_id bigint generated always as identity,
      erased_at timestamptz not null default clock_timestamp(),
      forever boolean not null default false,
      key_fingerprint text not null default '',
      counts jsonb not null default '{}',
      primary key (connection_id, erasure_id)
    );
    comment on table erasures is 'receipts: what was removed, without whose it was';
    comment on column erasures.connection_id is 'empty: all connections';
    comment on column erasures.key_fingerprint is 'of ERASURE_KEY, which is not here';

    create table suppressions (
      connection_id text not null,
      hash bytea not null,
      is_record boolean not null default false,
      erasure_id bigint not null default 0,
      erased_at timestamptz not null default clock_timestamp(),
      forever boolean not null default false,
      primary key (connection_id, hash)
    );
    comment on table suppressions is 'what must not come back, by HMAC-SHA256 under ERASURE_KEY';
    comment on column suppressions.is_record is
      'a message that was removed, or a record as it was then; else an identifier of the person';
    create index suppressions_by_erasure on suppressions (erasure_id);

    create table erasure_returns (
      connection_id text not null,
      erasure_id bigint not null,
      returned_at timestamptz not null default clock_timestamp(),
      primary key (connection_id, erasure_id)
    );
    comment on table erasure_returns is
      'where there are messages with the person from after the erasure: what has no date may come again';

    alter table sync_state add column suppressed_by text;
    comment on column sync_state.suppressed_by is
      'the fingerprint of the key, where something was erased: read under the lock that every writer takes';

    alter table messages add column erased_at timestamptz;
    comment on column messages.erased_at is 'a tombstone: who sent it and what it said were erased';
  `.execute(db);
}
